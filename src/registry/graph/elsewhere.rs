//! What components lean on in other processes of their system.

use super::{Node, Resolver, members};

/// What is not there for a component, or not here.
#[derive(Clone, Default)]
pub(super) struct Outside {
    pub absent: Vec<String>,
    pub hard: Vec<String>,
    pub optional: Vec<String>,
}

/// Adds what is not in the list yet.
pub(super) fn add(list: &mut Vec<String>, names: Vec<&str>) {
    for name in names {
        if !list.iter().any(|known| known == name) {
            list.push(name.to_owned());
        }
    }
}

impl<'a> Resolver<'a> {
    /// Whom a name means, here and in other processes: a component comes before a group.
    pub(super) fn meant(&self, name: &str) -> (Vec<usize>, Vec<&'a str>) {
        let here = self.names.get(name).cloned().unwrap_or_default();
        if here.first().is_some_and(|index| self.nodes[*index].name == name) {
            return (here, Vec::new());
        }
        let elsewhere = members(&self.rules.elsewhere, name);
        let is_one = elsewhere.first().is_some_and(|first| *first == name);
        (if is_one { Vec::new() } else { here }, elsewhere)
    }

    /// Notes what a component depends on in other processes, where those can be reached.
    pub(super) fn lean_elsewhere(
        &mut self,
        node: &Node,
        elsewhere: Vec<&str>,
        hard: &mut Vec<String>,
    ) {
        let Some(why) = &self.rules.unreachable else { return add(hard, elsewhere) };
        for name in elsewhere {
            self.problems.push(format!(
                "`{}` depends on `{name}`, which is in another part of the system, and {why}, or \
                 run `{name}` in this part, too",
                node.name
            ));
        }
    }
}
