//! Measuring in alternation.
//!
//! The host lends its cores at one of two speeds and changes them every few minutes. Two figures are
//! comparable only when they were taken side by side, so what is compared is run in turn, round by
//! round, and the ratio is taken within each round. Which of the two begins changes every round, so
//! that a slow drift favours neither.

use anyhow::{Result, ensure};

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The lower: cycles, bytes, milliseconds.
    Less,
    /// The higher: packets per second.
    More,
}

/// What several runs of one thing gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// The least where less is better, the greatest where more is.
    pub best: f64,
}

/// What several rounds of two things in alternation gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Ours.
    pub ours: Figure,
    /// The peer's.
    pub peer: Figure,
    /// The median over the rounds of how many times better we were than the peer; above 1 we won.
    pub ratio: f64,
    /// The least of these ratios.
    pub ratio_min: f64,
    /// The greatest of them.
    pub ratio_max: f64,
}

/// Runs `ours` and `peer` in turn, `rounds` times each.
///
/// # Errors
/// The first failure of either; no round at all; a figure that is not a positive number, since no
/// ratio could be taken of it.
pub fn paired(
    rounds: usize,
    better: Better,
    mut ours: impl FnMut() -> Result<f64>,
    mut peer: impl FnMut() -> Result<f64>,
) -> Result<Paired> {
    let (mut all_ours, mut all_peer, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (our_figure, peer_figure) = if round % 2 == 0 {
            let our_figure = measure(&mut ours)?;
            (our_figure, measure(&mut peer)?)
        } else {
            let peer_figure = measure(&mut peer)?;
            (measure(&mut ours)?, peer_figure)
        };
        ratios.push(match better {
            Better::Less => peer_figure / our_figure,
            Better::More => our_figure / peer_figure,
        });
        all_ours.push(our_figure);
        all_peer.push(peer_figure);
    }
    let spread = sorted(&ratios)?;
    Ok(Paired {
        ours: summary(&all_ours, better)?,
        peer: summary(&all_peer, better)?,
        ratio: median(&spread),
        ratio_min: spread[0],
        ratio_max: spread[spread.len() - 1],
    })
}

/// Runs `ours`, which has no peer, `rounds` times.
///
/// # Errors
/// As [`paired`].
pub fn repeated(
    rounds: usize,
    better: Better,
    mut ours: impl FnMut() -> Result<f64>,
) -> Result<Figure> {
    let figures = (0..rounds)
        .map(|_| measure(&mut ours))
        .collect::<Result<Vec<_>>>()?;
    summary(&figures, better)
}

fn measure(run: &mut impl FnMut() -> Result<f64>) -> Result<f64> {
    let figure = run()?;
    ensure!(
        figure.is_finite() && figure > 0.0,
        "{figure} was measured, which is not a positive number"
    );
    Ok(figure)
}

fn summary(figures: &[f64], better: Better) -> Result<Figure> {
    let figures = sorted(figures)?;
    let best = match better {
        Better::Less => figures[0],
        Better::More => figures[figures.len() - 1],
    };
    Ok(Figure {
        median: median(&figures),
        best,
    })
}

fn sorted(figures: &[f64]) -> Result<Vec<f64>> {
    ensure!(!figures.is_empty(), "nothing is measured in no rounds");
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    Ok(figures)
}

/// The median of at least one figure in order.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn in_turn(figures: &[f64]) -> impl FnMut() -> Result<f64> {
        let mut figures = figures.iter();
        move || Ok(*figures.next().unwrap())
    }

    #[test]
    fn ratios_are_taken_within_each_round() {
        // The host slows down threefold in the middle: the medians would say 30 / 20.
        let ours = in_turn(&[10.0, 10.0, 10.0, 30.0, 30.0]);
        let peer = in_turn(&[20.0, 20.0, 20.0, 60.0, 75.0]);
        let paired = paired(5, Better::Less, ours, peer).unwrap();
        let figure = |median, best| Figure { median, best };
        assert_eq!(
            paired,
            Paired {
                ours: figure(10.0, 10.0),
                peer: figure(20.0, 20.0),
                ratio: 2.0,
                ratio_min: 2.0,
                ratio_max: 2.5,
            }
        );
    }

    #[test]
    fn more_is_better_where_it_is() {
        let ours = in_turn(&[3.0, 4.0, 8.0, 10.0]);
        let peer = in_turn(&[6.0, 4.0, 4.0, 4.0]);
        let paired = paired(4, Better::More, ours, peer).unwrap();
        assert_eq!(paired.ratio, 1.5);
        assert_eq!((paired.ratio_min, paired.ratio_max), (0.5, 2.5));
        assert_eq!((paired.ours.median, paired.ours.best), (6.0, 10.0));
        assert_eq!((paired.peer.median, paired.peer.best), (4.0, 6.0));
    }

    #[test]
    fn the_two_begin_in_turn() {
        let order = RefCell::new(String::new());
        let run = |name| {
            order.borrow_mut().push(name);
            Ok(1.0)
        };
        paired(3, Better::Less, || run('o'), || run('p')).unwrap();
        assert_eq!(order.into_inner(), "oppoop");
    }

    #[test]
    fn what_has_no_ratio_is_refused() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(repeated(1, Better::Less, || Ok(wrong)).is_err());
        }
        assert!(repeated(0, Better::Less, || Ok(1.0)).is_err());
        assert!(paired(0, Better::Less, || Ok(1.0), || Ok(1.0)).is_err());
        let failure = paired(1, Better::Less, || Ok(1.0), || anyhow::bail!("it broke"));
        assert_eq!(failure.unwrap_err().to_string(), "it broke");
    }
}
