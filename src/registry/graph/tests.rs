use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn node(name: &str, depends_on: &[&str]) -> Node {
    Node { depends_on: strings(depends_on), ..Node::new(name) }
}

fn plan(nodes: &[Node]) -> Result<StartPlan> {
    StartPlan::resolve(nodes, &Rules::default())
}

fn order(plan: &StartPlan) -> Vec<&str> {
    plan.order().collect()
}

fn diamond() -> Vec<Node> {
    vec![
        node("mod1", &[]),
        node("mod2", &["mod1"]),
        node("mod3", &["mod1"]),
        node("mod4", &["mod2", "mod3"]),
    ]
}

#[test]
fn a_diamond_has_three_layers_and_stops_in_reverse() {
    let plan = plan(&diamond()).unwrap();
    assert_eq!(order(&plan), ["mod1", "mod2", "mod3", "mod4"]);
    assert_eq!(plan.layers(), [vec!["mod1"], vec!["mod2", "mod3"], vec!["mod4"]]);
    assert_eq!(plan.stop_order().collect::<Vec<_>>(), ["mod4", "mod3", "mod2", "mod1"]);
    assert_eq!(plan.dependents_of("mod2"), ["mod4"]);
    assert_eq!(plan.dependents_of("mod1"), ["mod2", "mod3", "mod4"]);
    assert!(plan.dependents_of("nobody").is_empty());
}

#[test]
fn a_cycle_shows_its_whole_path() {
    let nodes = [node("x", &["a"]), node("a", &["b"]), node("b", &["c"]), node("c", &["a"])];
    let error = plan(&nodes).unwrap_err();
    assert_eq!(error.kind(), Kind::DependencyCycle);
    assert_eq!(error.message(), "dependency cycle: a -> b -> c -> a");
}

#[test]
fn order_only_edges_close_cycles_too() {
    let mut nodes = diamond();
    nodes[0].after = strings(&["mod4"]);
    assert_eq!(plan(&nodes).unwrap_err().kind(), Kind::DependencyCycle);
    let mut alone = node("a", &[]);
    alone.wants = strings(&["a"]);
    let error = plan(&[alone]).unwrap_err();
    assert_eq!(error.kind(), Kind::DependencyCycle);
    assert!(error.message().contains("a -> a"), "{error}");
}

#[test]
fn every_problem_is_told_at_once() {
    let rules = Rules {
        initialization_order: strings(&["decision_engin"]),
        disabled: strings(&["dashboard"]),
        ..Rules::default()
    };
    let nodes = [
        node("data_collection", &["dashboard"]),
        node("decision_engine", &["data_colection"]),
        node("a", &["b"]),
        node("b", &["a"]),
    ];
    let error = StartPlan::resolve(&nodes, &rules).unwrap_err();
    assert_eq!(error.context().len(), 4, "{error:?}");
    for part in [
        "`dashboard`, which is disabled",
        "did you mean `data_collection`?",
        "did you mean `decision_engine`?",
        "a -> b -> a",
    ] {
        assert!(error.message().contains(part), "{part} in {error}");
    }
}

#[test]
fn what_runs_elsewhere_is_leant_on_and_orders_nothing() {
    let part = |name: &str, group: &str| Node { groups: strings(&[group]), ..Node::new(name) };
    let rules = Rules {
        initialization_order: strings(&["agents", "engine"]),
        elsewhere: vec![part("technical", "agents"), part("patterns", "agents")],
        ..Rules::default()
    };
    let mut engine = node("engine", &["agents", "feed"]);
    engine.wants = strings(&["patterns", "nobody"]);
    let inside = Node { groups: strings(&["agents"]), ..Node::new("sentiment") };
    let nodes = [engine, inside, node("feed", &[])];
    let plan = StartPlan::resolve(&nodes, &rules).unwrap();
    let step = plan.step("engine").unwrap();
    assert_eq!(step.hard, strings(&["sentiment", "feed"]), "the member that is here counts");
    assert_eq!(step.hard_elsewhere, strings(&["technical", "patterns"]));
    assert_eq!(step.optional_elsewhere, strings(&[]), "what is hard already is no option");
    assert_eq!(step.absent, strings(&["nobody"]));
    assert!(plan.tree().contains("├── technical (elsewhere)\n"), "{}", plan.tree());
    assert!(plan.mermaid().contains("--> technical([\"technical\"])"), "{}", plan.mermaid());
}

#[test]
fn what_runs_elsewhere_and_is_out_of_reach_is_refused_where_it_is_needed() {
    let rules = Rules {
        elsewhere: vec![Node::new("feed"), Node::new("news")],
        unreachable: Some("this bus reaches no other process: set another".into()),
        ..Rules::default()
    };
    let error = StartPlan::resolve(&[node("engine", &["feed"])], &rules).unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    let said = "`engine` depends on `feed`, which is in another part of the system, and this bus \
                reaches no other process: set another, or run `feed` in this part, too";
    assert_eq!(error.message(), said);
    let wanting = Node { wants: strings(&["news"]), ..Node::new("engine") };
    let plan = StartPlan::resolve(&[wanting], &rules).unwrap();
    assert_eq!(plan.step("engine").unwrap().absent, strings(&["news"]));
}

#[test]
fn soft_edges_order_only_what_is_there() {
    let b = Node { after: strings(&["a", "zzz"]), wants: strings(&["yyy"]), ..Node::new("b") };
    let plan = plan(&[b, node("a", &[])]).unwrap();
    assert_eq!(order(&plan), ["a", "b"]);
    let step = plan.step("b").unwrap();
    assert_eq!(
        (step.order.as_slice(), step.absent.as_slice()),
        (&strings(&["a"])[..], &strings(&["yyy"])[..])
    );
}

#[test]
fn initialization_order_breaks_ties_and_never_beats_a_dependency() {
    let nodes = [node("a", &[]), node("b", &["c"]), node("c", &[])];
    let rules = Rules { initialization_order: strings(&["b", "c"]), ..Rules::default() };
    assert_eq!(order(&StartPlan::resolve(&nodes, &rules).unwrap()), ["c", "b", "a"]);
}

#[test]
fn a_group_stands_for_its_members() {
    let member = |name: &str| Node { groups: strings(&["agents"]), ..Node::new(name) };
    let nodes = [node("engine", &["agents"]), member("ta"), node("log", &[]), member("news")];
    let rules = Rules { initialization_order: strings(&["agents"]), ..Rules::default() };
    let plan = StartPlan::resolve(&nodes, &rules).unwrap();
    assert_eq!(order(&plan), ["ta", "news", "engine", "log"]);
    assert_eq!(plan.step("engine").unwrap().hard, ["ta", "news"]);
    assert_eq!(members(&nodes, "agents"), ["ta", "news"]);
    assert_eq!(members(&nodes, "log"), ["log"]);
}

#[test]
fn a_member_that_names_its_group_means_the_others() {
    let leader = Node { groups: strings(&["g"]), ..node("leader", &["g"]) };
    let follower = Node { groups: strings(&["g"]), ..Node::new("follower") };
    assert_eq!(order(&plan(&[leader, follower]).unwrap()), ["follower", "leader"]);
}

#[test]
fn without_resolution_one_follows_the_other() {
    let nodes = [node("a", &["b"]), node("b", &["a", "gone"]), node("c", &[])];
    let rules = Rules {
        initialization_order: strings(&["c", "b"]),
        dependency_resolution: false,
        ..Rules::default()
    };
    let plan = StartPlan::resolve(&nodes, &rules).unwrap();
    assert_eq!(order(&plan), ["c", "b", "a"]);
    assert_eq!(plan.layers().len(), 3);
    assert!(plan.dependents_of("c").is_empty());
    let unknown = Rules { initialization_order: strings(&["cc"]), ..rules };
    assert_eq!(StartPlan::resolve(&nodes, &unknown).unwrap_err().kind(), Kind::Configuration);
}

#[test]
fn doubled_names_are_refused_and_nothing_is_a_plan() {
    assert!(plan(&[node("a", &[]), node("a", &[])]).unwrap_err().message().contains("twice"));
    assert_eq!(plan(&[]).unwrap(), StartPlan::default());
}

#[test]
fn the_tree_draws_each_dependency_once() {
    let mut nodes = diamond();
    nodes[3].wants = strings(&["cache"]);
    let text = plan(&nodes).unwrap().tree();
    let expected = "\
mod4
├── cache (wants, absent)
├── mod2
│   └── mod1
└── mod3
    └── mod1
";
    assert_eq!(text, expected);
}

#[test]
fn mermaid_has_a_node_and_an_arrow_each_and_escapes_names() {
    let text = plan(&[node("a\"]", &[]), node("b", &["a\"]"])]).unwrap().mermaid();
    assert_eq!(text, "flowchart TD\n    n0[\"a#quot;]\"]\n    n1[\"b\"]\n    n1 --> n0\n");
}

#[test]
fn a_long_chain_needs_no_deep_stack() {
    let nodes: Vec<Node> = (0..5_000)
        .map(|index| match index {
            0 => node("c0", &[]),
            _ => node(&format!("c{index}"), &[&format!("c{}", index - 1)]),
        })
        .collect();
    let plan = plan(&nodes).unwrap();
    assert_eq!(plan.layers().len(), 5_000);
    assert_eq!(plan.dependents_of("c0").len(), 4_999);
}

/// A graph of up to 12 components with any edges at all, cycles included.
fn any_graph() -> impl Strategy<Value = Vec<Node>> {
    let edges = prop::collection::vec((0..12usize, 0..12usize, 0..3u8), 0..24);
    (1..12usize, edges).prop_map(|(count, edges)| {
        let mut nodes: Vec<Node> = (0..count).map(|i| Node::new(format!("n{i}"))).collect();
        for (from, to, kind) in edges {
            let (from, to) = (from % count, to % count);
            if from == to {
                continue;
            }
            let list = match kind {
                0 => &mut nodes[from].depends_on,
                1 => &mut nodes[from].wants,
                _ => &mut nodes[from].after,
            };
            list.push(format!("n{to}"));
        }
        nodes
    })
}

fn neighbours(node: &Node) -> impl Iterator<Item = &String> {
    node.depends_on.iter().chain(&node.wants).chain(&node.after)
}

/// The plain definition: some component can be reached from itself.
fn has_cycle(nodes: &[Node]) -> bool {
    let by_name: HashMap<&str, &Node> = nodes.iter().map(|n| (n.name.as_str(), n)).collect();
    nodes.iter().any(|start| {
        let mut seen: Vec<&str> = Vec::new();
        let mut stack: Vec<&str> = vec![&start.name];
        while let Some(name) = stack.pop() {
            for next in neighbours(by_name[name]) {
                if *next == start.name {
                    return true;
                }
                if !seen.contains(&next.as_str()) {
                    seen.push(next);
                    stack.push(next);
                }
            }
        }
        false
    })
}

proptest! {
    #[test]
    fn the_order_respects_every_edge_and_cycles_are_always_found(
        nodes in any_graph(),
        preferred in prop::collection::vec(0..12usize, 0..6),
    ) {
        let initialization_order =
            preferred.iter().map(|index| format!("n{}", index % nodes.len())).collect();
        let rules = Rules { initialization_order, ..Rules::default() };
        match StartPlan::resolve(&nodes, &rules) {
            Err(error) => {
                prop_assert_eq!(error.kind(), Kind::DependencyCycle);
                prop_assert!(has_cycle(&nodes));
            }
            Ok(plan) => {
                prop_assert!(!has_cycle(&nodes));
                let place: HashMap<&str, usize> =
                    plan.order().enumerate().map(|(place, name)| (name, place)).collect();
                prop_assert_eq!(place.len(), nodes.len());
                for node in &nodes {
                    for before in neighbours(node) {
                        prop_assert!(place[before.as_str()] < place[node.name.as_str()]);
                        let layer = |name: &str| plan.step(name).unwrap().layer;
                        prop_assert!(layer(before) < layer(&node.name));
                    }
                }
                prop_assert_eq!(&plan, &StartPlan::resolve(&nodes, &rules).unwrap());
            }
        }
    }
}
