//! The plan as a picture: a tree for the terminal, Mermaid for documents.

use std::collections::HashSet;
use std::fmt::Write;

use super::{Edge, StartPlan, Step};

impl Edge {
    fn label(self) -> &'static str {
        match self {
            Edge::Hard => "",
            Edge::Optional => " (wants)",
            Edge::Order => " (after)",
        }
    }
}

impl StartPlan {
    /// A tree per component that nobody leans on, its dependencies below it.
    ///
    /// What was already drawn is marked `(*)` and not drawn out again.
    pub fn tree(&self) -> String {
        let used: HashSet<&str> =
            self.steps().flat_map(|step| step.predecessors().map(|(_, name)| name)).collect();
        let mut text = String::new();
        let mut drawn = HashSet::new();
        for root in self.order().filter(|name| !used.contains(name)) {
            // A stack of our own: a chain may be longer than the thread's stack is deep.
            let mut stack = vec![(root, String::new(), String::new(), "")];
            while let Some((name, lead, indent, label)) = stack.pop() {
                let again = !drawn.insert(name);
                let Some(step) = self.step(name) else { continue };
                let leaf = step.predecessors().next().is_none() && leaves(step).is_empty();
                let mark = if again && !leaf { " (*)" } else { "" };
                let _ = writeln!(text, "{lead}{name}{label}{mark}");
                if again {
                    continue;
                }
                let below: Vec<(Edge, &str)> = step.predecessors().collect();
                let leaves = leaves(step);
                let rows = below.len() + leaves.len();
                for (row, leaf) in leaves.iter().enumerate() {
                    let branch = if row + 1 == rows { "└── " } else { "├── " };
                    let _ = writeln!(text, "{indent}{branch}{leaf}");
                }
                for (row, (edge, dependency)) in below.iter().enumerate().rev() {
                    let last = row + 1 == below.len();
                    let (branch, bar) =
                        if last { ("└── ", "    ") } else { ("├── ", "│   ") };
                    stack.push((
                        dependency,
                        format!("{indent}{branch}"),
                        format!("{indent}{bar}"),
                        edge.label(),
                    ));
                }
            }
        }
        text
    }

    /// A Mermaid flowchart: an arrow points from a component to what it leans on, solid for
    /// `depends_on`, dotted for `wants` and `after`.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        for (index, name) in self.order().enumerate() {
            let _ = writeln!(text, "    n{index}[\"{}\"]", escape(name));
        }
        for (index, step) in self.steps().enumerate() {
            for (edge, name) in step.predecessors() {
                let Some(other) = self.steps.get_index_of(name) else { continue };
                let arrow = match edge {
                    Edge::Hard => "-->",
                    Edge::Optional => "-. wants .->",
                    Edge::Order => "-. after .->",
                };
                let _ = writeln!(text, "    n{index} {arrow} n{other}");
            }
            // Round, because they are none of this process.
            let elsewhere = step.hard_elsewhere.iter().map(|name| (name, "-->"));
            let optional = step.optional_elsewhere.iter().map(|name| (name, "-. wants .->"));
            for (name, arrow) in elsewhere.chain(optional) {
                let _ = writeln!(text, "    n{index} {arrow} {0}([\"{0}\"])", escape(name));
            }
        }
        text
    }
}

/// What a component leans on that is no component here.
fn leaves(step: &Step) -> Vec<String> {
    let marked = |names: &[String], mark: &str| -> Vec<String> {
        names.iter().map(|name| format!("{name} ({mark})")).collect()
    };
    let mut leaves = marked(&step.absent, "wants, absent");
    leaves.extend(marked(&step.hard_elsewhere, "elsewhere"));
    leaves.extend(marked(&step.optional_elsewhere, "wants, elsewhere"));
    leaves
}

/// Mermaid reads `#name;` as a character and ends a label at a quote or a line's end.
fn escape(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            '"' => "#quot;".to_owned(),
            '#' => "#35;".to_owned(),
            '<' => "#lt;".to_owned(),
            '>' => "#gt;".to_owned(),
            c if c.is_control() => " ".to_owned(),
            c => c.to_string(),
        })
        .collect()
}
