//! How often things happen in the made-up hospital.

use std::fmt;
use std::str::FromStr;

/// A share, in a million.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Share(pub(super) u32);

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        let share: f64 = number.trim().parse().map_err(|_| "expected a share, such as 0.05 or 5%")?;
        let share = share / whole;
        if !(0.0..=1.0).contains(&share) {
            return Err("expected a share from 0 to 1");
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to a million")]
        Ok(Self((share * 1_000_000.0).round() as u32))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1_000_000.0)
    }
}

/// How often what happens.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "How often")]
pub(super) struct Rates {
    /// In-patients who are moved, a day
    #[arg(long, value_name = "SHARE", default_value_t = Self::usual().transfers)]
    pub(super) transfers: Share,
    /// In-patients whom another doctor is asked to see, a day
    #[arg(long, value_name = "SHARE", default_value_t = Self::usual().consults)]
    pub(super) consults: Share,
    /// In-patients of whom something is corrected, a day
    #[arg(long, value_name = "SHARE", default_value_t = Self::usual().corrections)]
    pub(super) corrections: Share,
    /// Admissions, transfers and discharges that are taken back
    #[arg(long, value_name = "SHARE", default_value_t = Self::usual().cancels)]
    pub(super) cancels: Share,
    /// Emergencies whom nobody can name, and whose record is merged into their own later
    #[arg(long, value_name = "SHARE", default_value_t = Self::usual().merges)]
    pub(super) merges: Share,
    /// Messages that are sent later than others recorded after them
    #[arg(long, value_name = "SHARE", default_value_t = Self::usual().late)]
    pub(super) late: Share,
    /// Messages that are sent twice
    #[arg(long, value_name = "SHARE", default_value_t = Self::usual().duplicates)]
    pub(super) duplicates: Share,
}

impl Rates {
    /// As in a hospital that is run well.
    pub(super) const fn usual() -> Self {
        Self {
            transfers: Share(250_000),
            consults: Share(200_000),
            corrections: Share(100_000),
            cancels: Share(50_000),
            merges: Share(50_000),
            late: Share(20_000),
            duplicates: Share(10_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn a_share_is_a_part_of_one_or_of_a_hundred() {
        assert_eq!("0.05".parse(), Ok(Share(50_000)));
        assert_eq!("5%".parse(), Ok(Share(50_000)));
        assert_eq!("1".parse(), Ok(Share(1_000_000)));
        for wrong in ["", "x", "1.1", "-0.1", "101%", "NaN"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
