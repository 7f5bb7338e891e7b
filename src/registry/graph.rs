//! The dependency graph of components: declared nodes in, one start plan out.
//!
//! Deciding only: nothing is started here. Every problem is collected, so that a wrong
//! configuration is mended in one go; with any problem there is no plan.

mod elsewhere;
mod render;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashSet;

use indexmap::IndexMap;

use self::elsewhere::{Outside, add};
use self::walk::{shortest_cycle, topological};
use crate::error::{Error, Kind, Result, did_you_mean};

const OPERATION: &str = "plan the start order";

/// More cycles than this in one message help nobody.
const CYCLES_SHOWN: usize = 8;

/// One component as declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The component's unique name.
    pub name: String,
    /// The groups it is in; a group's name stands for its members.
    pub groups: Vec<String>,
    /// Hard dependencies: must run before this one starts, and stop after it.
    pub depends_on: Vec<String>,
    /// Optional dependencies: ordered when present; missing or failed means degraded.
    pub wants: Vec<String>,
    /// Order only: these start first if they take part at all.
    pub after: Vec<String>,
}

impl Node {
    /// A component without dependencies.
    pub fn new(name: impl Into<String>) -> Self {
        Node { name: name.into(), ..Node::default() }
    }
}

/// What besides the nodes decides the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Names or groups, first to start first; breaks ties and never beats a dependency.
    pub initialization_order: Vec<String>,
    /// Components and groups that exist in the configuration but are switched off.
    pub disabled: Vec<String>,
    /// Components of the system that run in other processes; of these, name and groups count.
    pub elsewhere: Vec<Node>,
    /// Why nothing can be known of other processes, and what to do about it; none where it can.
    pub unreachable: Option<String>,
    /// Whether dependencies count. Without, components start one after the other, by
    /// `initialization_order` and then by declaration.
    pub dependency_resolution: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            initialization_order: Vec::new(),
            disabled: Vec::new(),
            elsewhere: Vec::new(),
            unreachable: None,
            dependency_resolution: true,
        }
    }
}

/// How strongly one component leans on another; the stronger comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    /// From `depends_on`.
    Hard,
    /// From `wants`.
    Optional,
    /// From `after`, or from the previous component when dependencies do not count.
    Order,
}

/// One component's place in the plan. Names are in start order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The component.
    pub name: String,
    /// What must run before it starts; if one fails, this one is blocked.
    pub hard: Vec<String>,
    /// What it waits for and can do without, degraded.
    pub optional: Vec<String>,
    /// What it merely starts after.
    pub order: Vec<String>,
    /// Entries of `wants` that stand for nothing here: it will run degraded.
    pub absent: Vec<String>,
    /// What it depends on that runs in other processes: it waits until that is ready.
    pub hard_elsewhere: Vec<String>,
    /// What it wants that runs in other processes: it does not wait, and is degraded without.
    pub optional_elsewhere: Vec<String>,
    /// The layer it starts in, from 0.
    pub layer: usize,
}

impl Step {
    /// All that it leans on in other processes.
    pub fn elsewhere(&self) -> impl Iterator<Item = &str> {
        self.hard_elsewhere.iter().chain(&self.optional_elsewhere).map(String::as_str)
    }

    /// Everything that starts before this component because of it, strongest first.
    pub fn predecessors(&self) -> impl Iterator<Item = (Edge, &str)> {
        let kinds = [
            (Edge::Hard, &self.hard),
            (Edge::Optional, &self.optional),
            (Edge::Order, &self.order),
        ];
        kinds
            .into_iter()
            .flat_map(|(edge, names)| names.iter().map(move |name| (edge, name.as_str())))
    }
}

/// Who starts after whom: a total order, and layers that may start in parallel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartPlan {
    steps: IndexMap<String, Step>,
    layers: Vec<Vec<String>>,
}

impl StartPlan {
    /// Plans the start of `nodes`, given in declaration order.
    ///
    /// A name means the component of that name, else the members of the group (without the
    /// component that says it). A `wants` or `after` that names nothing is no error.
    ///
    /// # Errors
    /// [`Kind::DependencyCycle`] if components wait for each other in a circle, with the whole
    /// circle in the message; [`Kind::Configuration`] for missing, disabled or doubled
    /// components and for unknown names in `initialization_order`. The message has every
    /// problem, and so has the error's context, one `problem` each.
    pub fn resolve(nodes: &[Node], rules: &Rules) -> Result<StartPlan> {
        Resolver::new(nodes, rules).plan()
    }

    /// The components in the order in which they start.
    pub fn order(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.steps.keys().map(String::as_str)
    }

    /// The components in the order in which they stop.
    pub fn stop_order(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.order().rev()
    }

    /// Layers, first to start first; the members of one layer may start in parallel.
    pub fn layers(&self) -> &[Vec<String>] {
        &self.layers
    }

    /// One component's place.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.get(name)
    }

    /// Every component's place, in start order.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.steps.values()
    }

    /// Whom the failure of `name` blocks: its hard dependents and theirs, in start order.
    pub fn dependents_of(&self, name: &str) -> Vec<&str> {
        let mut blocked = HashSet::from([name]);
        // Dependents come later in the start order, so that one pass finds them all.
        for step in self.steps.values() {
            if step.hard.iter().any(|dependency| blocked.contains(dependency.as_str())) {
                blocked.insert(&step.name);
            }
        }
        blocked.remove(name);
        self.order().filter(|other| blocked.contains(other)).collect()
    }
}

/// The components `name` stands for: the one of that name, else the members of the group, in
/// declaration order. Empty if it stands for nothing.
pub fn members<'a>(nodes: &'a [Node], name: &str) -> Vec<&'a str> {
    let mut found: Vec<&str> =
        nodes.iter().filter(|node| node.name == name).map(|node| node.name.as_str()).collect();
    if found.is_empty() {
        let inside = |node: &&Node| node.groups.iter().any(|group| group == name);
        found = nodes.iter().filter(inside).map(|node| node.name.as_str()).collect();
    }
    found
}

struct Resolver<'a> {
    nodes: &'a [Node],
    rules: &'a Rules,
    /// What each name stands for, as indices into `nodes`; components before groups.
    names: IndexMap<&'a str, Vec<usize>>,
    problems: Vec<String>,
    cycles: Vec<String>,
}

impl<'a> Resolver<'a> {
    fn new(nodes: &'a [Node], rules: &'a Rules) -> Self {
        let mut names: IndexMap<&str, Vec<usize>> = IndexMap::new();
        let mut problems = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if names.insert(&node.name, vec![index]).is_some() {
                problems.push(format!("component `{}` is declared twice", node.name));
            }
        }
        let components = names.len();
        for (index, node) in nodes.iter().enumerate() {
            for group in &node.groups {
                let entry = names.entry(group);
                if entry.index() >= components {
                    let members = entry.or_default();
                    if members.last() != Some(&index) {
                        members.push(index);
                    }
                }
            }
        }
        Resolver { nodes, rules, names, problems, cycles: Vec::new() }
    }

    fn plan(mut self) -> Result<StartPlan> {
        let ranks = self.ranks();
        let mut outside = vec![Outside::default(); self.nodes.len()];
        let edges: Vec<IndexMap<usize, Edge>> = if self.rules.dependency_resolution {
            (0..self.nodes.len()).map(|index| self.edges(index, &mut outside[index])).collect()
        } else {
            let mut line: Vec<usize> = (0..self.nodes.len()).collect();
            line.sort_by_key(|index| ranks[*index]);
            let mut edges = vec![IndexMap::new(); self.nodes.len()];
            for pair in line.windows(2) {
                edges[pair[1]].insert(pair[0], Edge::Order);
            }
            edges
        };
        let order = topological(&edges, &ranks);
        if order.len() < self.nodes.len() {
            self.find_cycles(&edges, &order);
        }
        self.fail()?;
        Ok(self.build(&order, &edges, outside))
    }

    /// Each component's rank among those that are ready: `initialization_order`, declaration.
    fn ranks(&mut self) -> Vec<(usize, usize)> {
        let mut ranks: Vec<(usize, usize)> =
            (0..self.nodes.len()).map(|index| (usize::MAX, index)).collect();
        for (position, name) in self.rules.initialization_order.iter().enumerate() {
            match self.names.get(name.as_str()) {
                Some(members) => members.iter().for_each(|index| {
                    ranks[*index].0 = ranks[*index].0.min(position);
                }),
                None if self.is_disabled(name) => {}
                None if !members(&self.rules.elsewhere, name).is_empty() => {}
                None => {
                    let hint = self.hint(name, None);
                    self.problems.push(format!(
                        "`initialization_order` names `{name}`, which is no component and no \
                         group{hint}"
                    ));
                }
            }
        }
        ranks
    }

    fn edges(&mut self, index: usize, outside: &mut Outside) -> IndexMap<usize, Edge> {
        let node = &self.nodes[index];
        let mut edges = IndexMap::new();
        let lists = [
            (Edge::Hard, &node.depends_on, "depends_on"),
            (Edge::Optional, &node.wants, "wants"),
            (Edge::Order, &node.after, "after"),
        ];
        for (edge, names, key) in lists {
            for name in names {
                if *name == node.name {
                    self.cycles.push(format!("`{name}` names itself in `{key}`: {name} -> {name}"));
                    continue;
                }
                let (here, elsewhere) = self.meant(name);
                for member in here.iter().filter(|member| **member != index) {
                    edges.entry(*member).or_insert(edge);
                }
                match edge {
                    Edge::Hard if here.is_empty() && elsewhere.is_empty() => {
                        self.missing(&node.name, name);
                    }
                    Edge::Hard => self.lean_elsewhere(node, elsewhere, &mut outside.hard),
                    Edge::Optional if here.is_empty() && elsewhere.is_empty() => {
                        outside.absent.push(name.clone());
                    }
                    // Nobody who is out of reach will ever be there.
                    Edge::Optional if self.rules.unreachable.is_some() => {
                        outside.absent.extend(elsewhere.into_iter().map(str::to_owned));
                    }
                    Edge::Optional => add(&mut outside.optional, elsewhere),
                    Edge::Order => {}
                }
            }
        }
        outside.optional.retain(|name| !outside.hard.contains(name));
        edges
    }

    fn missing(&mut self, component: &str, dependency: &str) {
        let problem = if self.is_disabled(dependency) {
            format!(
                "`{component}` depends on `{dependency}`, which is disabled; enable it, or move \
                 it from `depends_on` to `wants`"
            )
        } else {
            let hint = self.hint(dependency, Some(component));
            format!("`{component}` depends on `{dependency}`, which does not exist{hint}")
        };
        self.problems.push(problem);
    }

    fn is_disabled(&self, name: &str) -> bool {
        self.rules.disabled.iter().any(|disabled| disabled == name)
    }

    fn hint(&self, name: &str, except: Option<&str>) -> String {
        let known = self.names.keys().copied().filter(|known| Some(*known) != except);
        match did_you_mean(name, known) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        }
    }

    /// Shows, for each component that waits for itself, its shortest circle; one that is
    /// already on a shown circle is not shown again.
    fn find_cycles(&mut self, edges: &[IndexMap<usize, Edge>], order: &[usize]) {
        let mut done = vec![false; edges.len()];
        order.iter().for_each(|index| done[*index] = true);
        for start in 0..edges.len() {
            if done[start] || self.cycles.len() >= CYCLES_SHOWN {
                continue;
            }
            if let Some(cycle) = shortest_cycle(start, edges) {
                cycle.iter().for_each(|index| done[*index] = true);
                let path: Vec<&str> =
                    cycle.iter().map(|index| self.nodes[*index].name.as_str()).collect();
                self.cycles.push(format!("dependency cycle: {}", path.join(" -> ")));
            }
        }
    }

    fn fail(&self) -> Result<()> {
        let problems: Vec<&String> = self.cycles.iter().chain(&self.problems).collect();
        let kind = if self.cycles.is_empty() { Kind::Configuration } else { Kind::DependencyCycle };
        let message = match problems.as_slice() {
            [] => return Ok(()),
            [only] => only.to_string(),
            several => {
                let lines: Vec<&str> = several.iter().map(|problem| problem.as_str()).collect();
                format!("{} problems: {}", several.len(), lines.join("; "))
            }
        };
        let error = Error::new(kind, OPERATION, message);
        Err(problems.into_iter().fold(error, |error, problem| error.with("problem", problem)))
    }

    fn build(
        &self,
        order: &[usize],
        edges: &[IndexMap<usize, Edge>],
        mut outside: Vec<Outside>,
    ) -> StartPlan {
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(position, index)| place[*index] = position);
        let mut layer_of = vec![0; order.len()];
        let mut plan = StartPlan::default();
        for &index in order {
            let mut before: Vec<(usize, Edge)> =
                edges[index].iter().map(|(other, edge)| (*other, *edge)).collect();
            before.sort_by_key(|(other, _)| place[*other]);
            let names = |kind: Edge| -> Vec<String> {
                let of_kind = before.iter().filter(|(_, edge)| *edge == kind);
                of_kind.map(|(other, _)| self.nodes[*other].name.clone()).collect()
            };
            let layer = before.iter().map(|(other, _)| layer_of[*other] + 1).max().unwrap_or(0);
            layer_of[index] = layer;
            let name = &self.nodes[index].name;
            let out = std::mem::take(&mut outside[index]);
            let step = Step {
                name: name.clone(),
                hard: names(Edge::Hard),
                optional: names(Edge::Optional),
                order: names(Edge::Order),
                absent: out.absent,
                hard_elsewhere: out.hard,
                optional_elsewhere: out.optional,
                layer,
            };
            if plan.layers.len() == layer {
                plan.layers.push(Vec::new());
            }
            plan.layers[layer].push(name.clone());
            plan.steps.insert(name.clone(), step);
        }
        plan
    }
}
