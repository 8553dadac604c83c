//! What goes wrong, and the numbers that it follows from.

/// Marsaglia's xorshift.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        from[usize::try_from(self.below(N as u64)).unwrap()]
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) loss_per_mille: u64,
    pub(crate) duplicate_per_mille: u64,
    pub(crate) delay_us: u64,
    pub(crate) cuts: bool,
    pub(crate) pauses: bool,
    pub(crate) restarts: bool,
    pub(crate) hand_overs: bool,
    pub(crate) ring_overflows: bool,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        loss_per_mille: 0,
        duplicate_per_mille: 0,
        delay_us: 100,
        cuts: false,
        pauses: false,
        restarts: false,
        hand_overs: false,
        ring_overflows: false,
    };

    pub(crate) fn of(random: &mut Random) -> Self {
        Self {
            loss_per_mille: random.pick([0, 10, 100, 300]),
            duplicate_per_mille: random.pick([0, 50, 200]),
            delay_us: random.pick([50, 500, 5_000]),
            cuts: random.one_in(2),
            pauses: random.one_in(2),
            restarts: random.one_in(2),
            hand_overs: random.one_in(2),
            ring_overflows: random.one_in(3),
        }
    }
}
