//! Values to positions, on logarithmic axes: sessions go from one to ten million, and what matters of
//! cycles and ratios is how many times one is the other.

/// A logarithmic axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Logarithms of the values at both ends.
    values: (f64, f64),
    /// Positions of both ends.
    ends: (f64, f64),
}

impl Scale {
    /// From the least to the greatest of `values`, with some room beyond them, between two positions.
    /// Values that have no logarithm are left out.
    pub(super) fn around(values: impl Iterator<Item = f64>, room: f64, ends: (f64, f64)) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
            low = low.min(value / room);
            high = high.max(value * room);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        if low == high {
            (low, high) = (low / 2.0, high * 2.0);
        }
        Self {
            values: (low.ln(), high.ln()),
            ends,
        }
    }

    /// Where a positive value is; those beyond the ends are at the ends.
    pub(super) fn at(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let share = ((value.ln() - low) / (high - low)).clamp(0.0, 1.0);
        self.ends.0 + share * (self.ends.1 - self.ends.0)
    }

    /// Round values on the axis: 1, 2 and 5 times the powers of ten, or only these where there are many.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (low, high) = (self.values.0.exp(), self.values.1.exp());
        let decades = (high / low).log10();
        let steps: &[f64] = if decades > 2.5 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        (-9..=12)
            .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
            .filter(|tick| (low..=high).contains(tick))
            .collect()
    }
}

/// A number of sessions as people say it: 1 k, 100 k, 10 M.
pub(super) fn thousands(count: u64) -> String {
    match count {
        n if n >= 1_000_000 && n % 100_000 == 0 => format!("{} M", n as f64 / 1e6),
        n if n >= 1_000 && n % 100 == 0 => format!("{} k", n as f64 / 1e3),
        n => n.to_string(),
    }
}

/// Three significant digits, or all before the point.
pub(super) fn readable(value: f64) -> String {
    match value.abs() {
        v if v < 0.1 => format!("{value:.3}"),
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios_are_equally_far_apart() {
        let scale = Scale::around([1.0, 100.0].into_iter(), 1.0, (0.0, 200.0));
        assert!((scale.at(1.0) - 0.0).abs() < 1e-9);
        assert!((scale.at(10.0) - 100.0).abs() < 1e-9);
        assert!((scale.at(100.0) - 200.0).abs() < 1e-9);
        assert!((scale.at(1_000.0) - 200.0).abs() < 1e-9);
        assert_eq!(scale.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn one_value_and_none_have_a_scale_too() {
        let one = Scale::around([8.0].into_iter(), 1.0, (0.0, 10.0));
        assert!((one.at(8.0) - 5.0).abs() < 1e-9);
        let none = Scale::around([0.0, f64::NAN].into_iter(), 1.2, (0.0, 10.0));
        assert!(none.at(3.0).is_finite());
    }

    #[test]
    fn counts_are_short_where_they_are_round() {
        let names = [1, 1_000, 1_234, 100_000, 1_500_000, 10_000_000].map(thousands);
        assert_eq!(names, ["1", "1 k", "1234", "100 k", "1.5 M", "10 M"]);
    }
}
