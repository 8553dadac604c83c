//! The numbers by which sessions remember their policies, and by which these are counted.
//!
//! A session carries its policy's number from unit to unit, and units take a new configuration one after the
//! other. So a number comes from the policy's name and not from its place: it means the same on all units,
//! before and after policies are added, removed or moved. Two of a hundred names have the same first choice once
//! in seven configurations; then one of them has the next free number, and gets the other's when that one is
//! removed. All that hangs on it is the name that a session is shown with, and a counter: whether peers get a
//! session is not looked up, the session says it ([`Session::PRIVATE`]).
//!
//! [`Session::PRIVATE`]: session::Session::PRIVATE

use cluster::name_key;
use session::Session;

/// How many numbers there are; more than policies can be.
const NUMBERS: u16 = Session::PRIVATE;

/// The numbers of policies with these names, in their order. Who comes first to a number does not depend on
/// that order.
pub(crate) fn numbers<'n>(names: impl Iterator<Item = &'n str>) -> Vec<u16> {
    let mut ordered: Vec<_> = names
        .enumerate()
        .map(|(place, name)| (name_key(name), name, place))
        .collect();
    ordered.sort_unstable();
    let mut numbers = vec![0; ordered.len()];
    let mut taken = vec![false; usize::from(NUMBERS)];
    for (key, _, place) in ordered {
        let [.., high, low] = (key ^ key >> 16).to_be_bytes();
        let mut number = u16::from_be_bytes([high, low]) % NUMBERS;
        while std::mem::replace(&mut taken[usize::from(number)], true) {
            number = (number + 1) % NUMBERS;
        }
        numbers[place] = number;
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn a_policy_keeps_its_number_wherever_it_stands() {
        let before = numbers(["out", "dns", "web"].into_iter());
        let after = numbers(["new", "web", "out", "dns"].into_iter());
        assert_eq!([after[2], after[3], after[1]], before[..]);
        assert_eq!(numbers(["dns"].into_iter()), [before[1]]);
        assert_eq!(before[0], 7493, "units of other releases say the same");
    }

    #[test]
    fn names_with_one_first_choice_get_two_numbers_whichever_stands_first() {
        let all: Vec<String> = (0..4_096).map(|n| format!("policy-{n}")).collect();
        let alone = |name: &str| numbers(std::iter::once(name))[0];
        let mut by_choice: HashMap<u16, &str> = HashMap::new();
        let pair = all.iter().find_map(|name| {
            let other = by_choice.insert(alone(name), name)?;
            Some([other, name])
        });
        let [first, second] = pair.unwrap();
        let [a, b] = numbers([first, second].into_iter())[..] else {
            panic!("two names, two numbers");
        };
        assert_ne!(a, b);
        assert_eq!(numbers([second, first].into_iter()), [b, a]);
        let given: HashSet<u16> = numbers(all.iter().map(String::as_str))
            .into_iter()
            .collect();
        assert_eq!(given.len(), all.len(), "as many as there can be");
        assert!(given.iter().all(|number| number & Session::PRIVATE == 0));
    }
}
