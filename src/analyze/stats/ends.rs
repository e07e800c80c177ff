//! The names at both ends that all rows of one key have in common.
//!
//! Exchanges come by the million: names are turned into codes once for each connection, and for each exchange eight codes
//! are compared at once.

use crate::analyze::column::Dictionary;
use crate::analyze::row::Party;

/// Names of an end: namespace, workload, pod, container.
const OF_END: usize = 4;
const OF_BOTH: usize = 2 * OF_END;

/// The code of a name that differs between rows, and of one that is not known. No dictionary gives them.
const MIXED: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

/// The names at both ends, the client's first, as codes of [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ends([u32; OF_BOTH]);

/// The names of an end; empty where they are not known or differ between rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End<'n> {
    pub namespace: &'n str,
    pub workload: &'n str,
    pub pod: &'n str,
    pub container: &'n str,
}

/// The names that occurred in one shard. Each kind has its own dictionary: the next connection mostly has the names of the
/// one before, which a dictionary finds without a lookup.
#[derive(Debug, Default)]
pub struct Names([Dictionary; OF_BOTH]);

/// For each code of another shard's dictionaries, the code in these.
pub struct Translation([Vec<u32>; OF_BOTH]);

impl Names {
    /// The codes of the names of client and server.
    pub fn ends(&mut self, client: &Party, server: &Party) -> Ends {
        let texts = [
            &client.namespace,
            &client.workload,
            &client.pod,
            &client.container,
            &server.namespace,
            &server.workload,
            &server.pod,
            &server.container,
        ];
        Ends(std::array::from_fn(|n| match texts[n].as_str() {
            "" => UNKNOWN,
            text => self.0[n].code(text),
        }))
    }

    /// Adds the names of another shard.
    pub fn adopt(&mut self, other: &Names) -> Translation {
        Translation(std::array::from_fn(|n| {
            let own = &mut self.0[n];
            other.0[n].texts().map(|text| own.code(text)).collect()
        }))
    }

    /// The names of client and server that all rows have in common.
    pub fn of(&self, agreed: &Agreed) -> [End<'_>; 2] {
        let Ends(codes) = agreed.0.unwrap_or(Ends([MIXED; OF_BOTH]));
        [0, OF_END].map(|first| {
            let text = |n: usize| self.0[first + n].get(codes[first + n]);
            End {
                namespace: text(0),
                workload: text(1),
                pod: text(2),
                container: text(3),
            }
        })
    }
}

/// The names that all rows so far have in common; `None` before the first. The order of rows and of merging makes no
/// difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreed(Option<Ends>);

impl Agreed {
    /// Adds the ends of a row.
    pub fn add(&mut self, seen: Ends) {
        match &mut self.0 {
            None => self.0 = Some(seen),
            // Without a branch, so that it becomes a few vector instructions.
            Some(Ends(own)) => *own = std::array::from_fn(|n| if own[n] == seen.0[n] { own[n] } else { MIXED }),
        }
    }

    /// Adds the rows of another; both have codes of the same dictionaries.
    pub fn merge(&mut self, other: Agreed) {
        other.0.into_iter().for_each(|ends| self.add(ends));
    }

    /// Translates codes to those of other dictionaries.
    pub fn translate(&mut self, to: &Translation) {
        if let Some(Ends(codes)) = &mut self.0 {
            for (code, own) in codes.iter_mut().zip(&to.0) {
                *code = own.get(*code as usize).copied().unwrap_or(*code);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(namespace: &str, pod: &str, workload: &str) -> Party {
        Party {
            namespace: namespace.into(),
            workload: workload.into(),
            pod: pod.into(),
            container: "app".into(),
            ..Party::default()
        }
    }

    /// A shard with these rows.
    fn shard(seen: &[(Party, Party)]) -> (Names, Agreed) {
        let (mut names, mut agreed) = (Names::default(), Agreed::default());
        for (client, server) in seen {
            agreed.add(names.ends(client, server));
        }
        (names, agreed)
    }

    fn merged(shards: impl IntoIterator<Item = (Names, Agreed)>) -> (Names, Agreed) {
        let (mut names, mut agreed) = (Names::default(), Agreed::default());
        for (others, mut other) in shards {
            other.translate(&names.adopt(&others));
            agreed.merge(other);
        }
        (names, agreed)
    }

    #[test]
    fn common_names_are_found_in_any_distribution_over_shards() {
        let frontend = party("shop", "frontend-a", "Deployment/frontend");
        let another = party("shop", "frontend-b", "Deployment/frontend");
        let staging = party("staging", "frontend-a", "Deployment/frontend");
        let [cart, host] = [party("shop", "cart-0", "StatefulSet/cart"), Party::default()];
        let pair = |client: &Party, server: &Party| (client.clone(), server.clone());
        let end = |[namespace, workload, pod, container]: [&'static str; 4]| End {
            namespace,
            workload,
            pod,
            container,
        };
        let at_cart = end(["shop", "StatefulSet/cart", "cart-0", "app"]);
        let cases = [
            (vec![], [end([""; 4]), end([""; 4])]),
            (
                vec![pair(&frontend, &cart); 3],
                [end(["shop", "Deployment/frontend", "frontend-a", "app"]), at_cart],
            ),
            (
                vec![pair(&frontend, &cart), pair(&another, &cart), pair(&frontend, &cart)],
                [end(["shop", "Deployment/frontend", "", "app"]), at_cart],
            ),
            (
                vec![pair(&staging, &cart), pair(&frontend, &cart), pair(&staging, &cart)],
                [end(["", "Deployment/frontend", "frontend-a", "app"]), at_cart],
            ),
            // A client without a pod does not agree with those that have one.
            (
                vec![pair(&frontend, &cart), pair(&host, &cart), pair(&host, &cart)],
                [end([""; 4]), at_cart],
            ),
            (
                vec![pair(&another, &frontend), pair(&frontend, &cart)],
                [
                    end(["shop", "Deployment/frontend", "", "app"]),
                    end(["shop", "", "", "app"]),
                ],
            ),
        ];
        for (seen, expected) in cases {
            for first in 0..=seen.len() {
                for second in first..=seen.len() {
                    let parts = [&seen[..first], &seen[first..second], &seen[second..]];
                    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                        let (names, agreed) = merged(order.map(|n| shard(parts[n])));
                        assert_eq!(names.of(&agreed), expected, "{seen:?} cut at {first} and {second}");
                    }
                }
            }
        }
    }
}
