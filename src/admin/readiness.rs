//! Whether the daemon can do its work, asked of every part at the moment of the question.
//!
//! A reason is words for an operator: which part, what is wrong, what to do. It never holds text of a message or an id of a patient.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use serde::Serialize;

/// One reason not to be ready.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Reason {
    /// Which part: `store`, `outbox`, `feed main`.
    pub part: Cow<'static, str>,
    /// What is wrong with it.
    pub what: Cow<'static, str>,
    /// What an operator can do.
    #[serde(rename = "do")]
    pub remedy: Cow<'static, str>,
}

impl Reason {
    /// A reason from its three texts.
    pub fn new(part: impl Into<Cow<'static, str>>, what: impl Into<Cow<'static, str>>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { part: part.into(), what: what.into(), remedy: remedy.into() }
    }
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Whether there is no reason not to be.
    pub ready: bool,
    /// All reasons, in the order in which the parts were registered.
    pub reasons: Vec<Reason>,
}

type Check = Arc<dyn Fn() -> Vec<Reason> + Send + Sync>;

/// The checks of all parts. A clone is the same registry.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Arc<RwLock<Vec<Check>>>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("n_checks", &self.checks.read().unwrap_or_else(PoisonError::into_inner).len()).finish()
    }
}

impl Readiness {
    /// Adds the check of a part: nothing wrong is an empty list. It is called for every probe, so it looks at what the part already knows and must
    /// not block.
    pub fn register(&self, check: impl Fn() -> Vec<Reason> + Send + Sync + 'static) {
        self.checks.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(check));
    }

    /// Asks every part.
    pub fn report(&self) -> Report {
        // Asked outside the lock: a check may register another.
        let checks = self.checks.read().unwrap_or_else(PoisonError::into_inner).clone();
        let reasons: Vec<Reason> = checks.iter().flat_map(|check| check()).collect();
        Report { ready: reasons.is_empty(), reasons }
    }
}
