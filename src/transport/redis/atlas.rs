//! Which node of a cluster has which slot, as one of them says.

use ::redis::{RedisResult, Value};

use super::address::Seat;
use super::answers;
use super::slot::SLOTS;

/// Who has nothing.
const NOBODY: u16 = u16::MAX;

/// The masters and their slots, and the other nodes that one may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Atlas {
    nodes: Vec<Seat>,
    /// For each slot, which of the nodes is its master.
    owners: Box<[u16]>,
}

impl Default for Atlas {
    fn default() -> Atlas {
        Atlas { nodes: Vec::new(), owners: vec![NOBODY; SLOTS].into() }
    }
}

impl Atlas {
    /// What the node at `asked` answered to `CLUSTER SLOTS`.
    ///
    /// # Errors
    /// What it says instead.
    pub fn of(answer: Value, asked: &Seat) -> RedisResult<Atlas> {
        let unexpected = || answers::unexpected("CLUSTER SLOTS");
        let Value::Array(ranges) = answer.extract_error()? else { return Err(unexpected()) };
        let mut atlas = Atlas::default();
        for range in ranges {
            let Value::Array(range) = range else { return Err(unexpected()) };
            let mut range = range.into_iter();
            let (Some(first), Some(last)) = (slot(range.next()), slot(range.next())) else {
                return Err(unexpected());
            };
            // The master stands first, its replicas behind it.
            let mut master = None;
            for node in range {
                let seat = seat_of(node, asked).ok_or_else(unexpected)?;
                let number = atlas.number(seat);
                master = master.or(Some(number));
            }
            if let (Some(master), true) = (master, first <= last) {
                atlas.owners[first..=last].fill(master);
            }
        }
        Ok(atlas)
    }

    /// The master of a slot, if it has one.
    pub fn master(&self, slot: u16) -> Option<&Seat> {
        self.nodes.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// A slot has another master from now on.
    pub fn moved(&mut self, slot: u16, to: Seat) {
        let number = self.number(to);
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = number;
        }
    }

    /// Every node that is known.
    pub fn nodes(&self) -> &[Seat] {
        &self.nodes
    }

    /// Those that have slots.
    pub fn masters(&self) -> Vec<Seat> {
        let has = |number: usize| self.owners.iter().any(|owner| usize::from(*owner) == number);
        let masters = (0..self.nodes.len()).filter(|number| has(*number));
        masters.map(|number| self.nodes[number].clone()).collect()
    }

    fn number(&mut self, seat: Seat) -> u16 {
        let known = self.nodes.iter().position(|known| *known == seat);
        let number = known.unwrap_or_else(|| {
            self.nodes.push(seat);
            self.nodes.len() - 1
        });
        u16::try_from(number).unwrap_or(NOBODY)
    }
}

fn slot(value: Option<Value>) -> Option<usize> {
    match value {
        Some(Value::Int(slot)) => usize::try_from(slot).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    }
}

/// Where a node is, as the answer has it: its endpoint, its port, its id, and perhaps more names.
fn seat_of(node: Value, asked: &Seat) -> Option<Seat> {
    let Value::Array(parts) = node else { return None };
    let mut parts = parts.into_iter();
    let (host, port) = (parts.next()?, parts.next()?);
    let Value::Int(port) = port else { return None };
    let port = u16::try_from(port).ok()?;
    let host = match host {
        Value::BulkString(host) => String::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        // It does not know how it is reached: as it was reached now.
        Value::Nil => String::new(),
        _ => return None,
    };
    // It is to be reached by its name, and has none: there may be an address.
    let host = match host.as_str() {
        "?" => parts.nth(1).and_then(address).unwrap_or_default(),
        _ => host,
    };
    beside(&host, port, asked)
}

/// The address among the further names of a node.
fn address(names: Value) -> Option<String> {
    let found = answers::pairs(names).into_iter().find(|(name, _)| name == b"ip")?;
    match found.1 {
        Value::BulkString(address) => String::from_utf8(address).ok(),
        Value::SimpleString(address) => Some(address),
        _ => None,
    }
}

/// A seat as a node names it: without a host it is on that of the node itself.
fn beside(host: &str, port: u16, asked: &Seat) -> Option<Seat> {
    match (host, asked) {
        ("", Seat::Tcp(own, _)) => Some(Seat::Tcp(own.clone(), port)),
        ("", Seat::Unix(_)) => None,
        (host, _) => Some(Seat::Tcp(host.to_owned(), port)),
    }
}

/// The seat of `host:port` as `MOVED` has it, said by the node at `asked`; IPv6 stands there
/// without brackets.
pub(super) fn redirected(text: &str, asked: &Seat) -> Option<Seat> {
    let (host, port) = text.rsplit_once(':')?;
    if host == "?" {
        return None;
    }
    beside(host.trim_matches(['[', ']']), port.parse().ok()?, asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn node(host: Value, port: i64, more: &[(&str, &str)]) -> Value {
        let names = more.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(names)])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
    }

    fn asked() -> Seat {
        Seat::Tcp("seed".into(), 1)
    }

    #[test]
    fn masters_and_their_slots_are_read() {
        let answer = Value::Array(vec![
            range(
                0,
                99,
                vec![node(text("10.0.0.1"), 7000, &[]), node(text("10.0.0.4"), 7003, &[])],
            ),
            range(101, 16_383, vec![node(Value::Nil, 7001, &[])]),
            range(100, 100, vec![node(text("10.0.0.1"), 7000, &[])]),
        ]);
        let mut atlas = Atlas::of(answer, &asked()).expect("an answer");
        let master = |atlas: &Atlas, slot| atlas.master(slot).map(Seat::to_string);
        assert_eq!(master(&atlas, 0).as_deref(), Some("10.0.0.1:7000"));
        assert_eq!(master(&atlas, 100).as_deref(), Some("10.0.0.1:7000"));
        assert_eq!(master(&atlas, 16_383).as_deref(), Some("seed:7001"));
        assert_eq!((atlas.nodes().len(), atlas.masters().len()), (3, 2));

        atlas.moved(7, Seat::Tcp("new".into(), 1));
        assert_eq!(master(&atlas, 7).as_deref(), Some("new:1"));
        assert_eq!(master(&atlas, 8).as_deref(), Some("10.0.0.1:7000"));
        assert_eq!(atlas.masters().len(), 3);
        assert_eq!(master(&Atlas::default(), 8), None);
    }

    #[test]
    fn a_node_without_an_endpoint_is_where_it_can_be() {
        let seat = |node| seat_of(node, &asked()).map(|seat| seat.to_string());
        let named = [("hostname", ""), ("ip", "10.0.0.9")];
        assert_eq!(seat(node(text("?"), 5, &named)).as_deref(), Some("10.0.0.9:5"));
        assert_eq!(seat(node(text("?"), 5, &[])).as_deref(), Some("seed:5"));
        assert_eq!(seat(node(text(""), 5, &[])).as_deref(), Some("seed:5"));
        assert_eq!(seat(node(text("name"), 5, &named)).as_deref(), Some("name:5"));
        assert_eq!(seat(node(text("::1"), 5, &[])).as_deref(), Some("[::1]:5"));
        assert_eq!(seat(node(text("a"), -5, &[])), None);
    }

    #[test]
    fn what_a_node_says_of_another_is_read() {
        let seat = |text| redirected(text, &asked()).map(|seat| seat.to_string());
        assert_eq!(seat("10.0.0.1:7").as_deref(), Some("10.0.0.1:7"));
        assert_eq!(seat(":7").as_deref(), Some("seed:7"));
        assert_eq!(seat("::1:7").as_deref(), Some("[::1]:7"));
        assert_eq!(seat("?:7"), None);
        assert_eq!(seat("nothing"), None);
    }

    #[test]
    fn what_is_no_map_is_none() {
        for answer in [
            Value::Okay,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16_384, vec![])]),
            Value::Array(vec![range(0, 1, vec![Value::Int(1)])]),
        ] {
            assert!(Atlas::of(answer, &asked()).is_err());
        }
    }
}
