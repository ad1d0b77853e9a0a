//! The environment, taken once at the start and handed on as a value. No other module reads it.

use std::collections::BTreeMap;
use std::fmt;

/// Environment variables.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process; what is not Unicode is left out.
    pub fn of_process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
    }

    /// The value of a variable.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The log filter: `WARDROOM_LOG`, else `RUST_LOG`.
    pub fn log_filter(&self) -> Option<&str> {
        self.value("WARDROOM_LOG").or_else(|| self.value("RUST_LOG"))
    }

    /// The variables that are configuration: those of ours with a double underscore, which keeps away what orchestrators inject
    /// (`WARDROOM_SERVICE_HOST`, `WARDROOM_PORT`).
    pub(super) fn overrides(&self) -> impl Iterator<Item = (String, String)> {
        let ours = self.0.iter().filter(|(name, _)| name.strip_prefix("WARDROOM_").is_some_and(|rest| rest.contains("__")));
        ours.map(|(name, value)| (name.clone(), value.clone()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Names only: a value may be a secret.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
