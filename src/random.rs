//! A small generator of numbers: the same seed gives the same numbers on every machine and in every release.
//!
//! It is for made-up hospitals and for the tests of the law, never for keys, ids or anything that nobody may guess. It is Sebastiano Vigna's
//! `SplitMix64`.

/// Numbers that only look like chance.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any of all.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when there is none.
    pub fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % n).unwrap_or(0)
    }

    /// A number from `from` up to and without `to`; `from` when there is none.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from.saturating_add(self.next() % to.saturating_sub(from).max(1))
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// True this many times in a million.
    pub const fn in_a_million(&mut self, times: u32) -> bool {
        self.next() % 1_000_000 < times as u64
    }

    /// One of these; `None` when there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_gives_these_numbers_and_no_others() {
        let mut random = Random::new(0);
        assert_eq!([random.next(), random.next(), random.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn bounds_hold_and_nothing_to_choose_from_is_no_fault() {
        let mut random = Random::new(7);
        assert!((0..1000).all(|_| (3..9).contains(&random.between(3, 9))));
        assert_eq!((random.below(0), random.between(5, 5), random.pick::<u8>(&[])), (0, 5, None));
        assert!((0..100).all(|_| random.in_a_million(1_000_000) && !random.in_a_million(0)));
    }
}
