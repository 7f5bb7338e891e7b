//! Configuration from files on disk: what ships, what the requirement shows, what goes wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, json};
use tiebeam::config::{
    BusImplementation, Config, ConfigStore, Format, Layer, Loader, LogFormat, Stamp, violations,
};
use tiebeam::error::{Error, Kind};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config").join(name)
}

fn pairs<'a>(pairs: &'a [(&str, &str)]) -> impl Iterator<Item = (String, String)> + 'a {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

fn stamp(author: &str) -> Stamp {
    Stamp { at_ms: 0, author: author.to_owned() }
}

/// A directory with files, and a loader for its `main.yaml`.
struct Place(tempfile::TempDir);

impl Place {
    fn new(files: &[(&str, &str)]) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        for (name, text) in files {
            place.write(name, text);
        }
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn loader(&self) -> Loader {
        Loader::new().file(self.0.path().join("main.yaml"))
    }
}

fn lines(error: &Error) -> Vec<String> {
    assert_eq!(error.kind(), Kind::Configuration);
    violations(error).iter().map(ToString::to_string).collect()
}

/// The only problem of a text that should have exactly one.
fn problem(text: &str) -> String {
    let error = Loader::new().text("main.yaml", text, Format::Yaml).load().unwrap_err();
    let mut found = lines(&error);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn load(text: &str) -> Config {
    Loader::new().text("main.yaml", text, Format::Yaml).load().unwrap()
}

#[test]
fn the_shipped_files_load_together_without_any_variable() {
    let config = Loader::new()
        .file(shipped("integration.yaml"))
        .file(shipped("system.yaml"))
        .load()
        .unwrap();
    let settings = config.settings();
    assert_eq!(settings.event_bus.implementation, BusImplementation::InMemory);
    assert!(settings.event_bus.connection_string.is_empty());
    assert_eq!(settings.event_bus.channel_prefix, "crypto_trading");
    assert_eq!(settings.event_bus.retry_delay, Duration::from_secs(1));
    assert_eq!(settings.system.name, "AI Crypto Trading System");
    assert_eq!(settings.logging.implementation, LogFormat::StructuredJson);
    assert_eq!(settings.logging.max_size, 100 << 20);
    let names: Vec<_> = config.components().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "data_collection",
            "impact_factor",
            "technical_analysis",
            "pattern_recognition",
            "sentiment_analysis",
            "decision_engine",
            "virtual_trading",
            "notification",
            "dashboard",
            "authentication",
            "session",
        ]
    );
    assert_eq!(config.components()[3].group, ["analysis_agents"]);
    assert!(config.warnings().is_empty());
}

#[test]
fn each_shipped_file_loads_alone() {
    for name in ["integration.yaml", "system.yaml"] {
        let config = Loader::new().file(shipped(name)).load().unwrap();
        assert_eq!(config.revision(), 1, "{name}");
    }
}

#[test]
fn the_requirements_own_files_load_when_the_variables_are_set() {
    let loader = Loader::new().file(fixture("integration.yaml")).file(fixture("system.yaml"));
    let config = loader
        .clone()
        .environment(pairs(&[
            ("REDIS_CONNECTION_STRING", "redis://:canary@localhost:6379/0"),
            ("EVENT_BUS_CONNECTION_STRING", "redis://elsewhere"),
        ]))
        .load()
        .unwrap();
    let bus = &config.settings().event_bus;
    assert_eq!(bus.implementation, BusImplementation::Redis);
    assert_eq!(bus.connection_string.expose(), "redis://:canary@localhost:6379/0");
    assert_eq!(config.settings().error_handling.retry.max_attempts, 3);
    assert_eq!(
        config.get("service_registry.initialization_order.2"),
        Some(&json!("analysis_agents"))
    );
    let printed = format!("{config:?} {:?} {}", config.settings(), config.to_redacted_json());
    assert!(!printed.contains("canary"), "{printed}");

    let error = loader.load().unwrap_err();
    let found = lines(&error);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("system.yaml:49: event_bus.connection_string: "), "{}", found[0]);
    assert!(found[0].contains("REDIS_CONNECTION_STRING"), "{}", found[0]);
}

#[test]
fn precedence_is_command_line_environment_files_defaults() {
    let place = Place::new(&[
        (
            "main.yaml",
            "event_bus:\n  batch_size: 1\n  capacity: 1\n  max_retry: 1\n  retry_delay: 1\nsystem: {environment: prod}\n",
        ),
        ("main.prod.yaml", "event_bus:\n  batch_size: 2\n  capacity: 2\n  max_retry: 2\n"),
    ]);
    let config = place
        .loader()
        .environment(pairs(&[
            ("TIEBEAM_EVENT_BUS__BATCH_SIZE", "3"),
            ("TIEBEAM_EVENT_BUS__CAPACITY", "3"),
        ]))
        .set("event_bus.batch_size=4")
        .load()
        .unwrap();
    let bus = &config.settings().event_bus;
    assert_eq!((bus.batch_size, bus.capacity, bus.max_retry), (4, 3, 2));
    assert_eq!(bus.retry_delay, Duration::from_millis(1));
    assert_eq!(bus.request_timeout, Duration::from_secs(30));

    let explained = config.explain("event_bus.batch_size").unwrap();
    let layers: Vec<_> = explained.origins.iter().map(|origin| origin.layer).collect();
    let expected = [
        Layer::CommandLine,
        Layer::Environment,
        Layer::OverlayFile,
        Layer::MainFile,
        Layer::Defaults,
    ];
    assert_eq!(layers, expected);
    let places: Vec<_> = explained.origins.iter().map(ToString::to_string).collect();
    assert_eq!(places[0], "--set event_bus.batch_size");
    assert_eq!(places[1], "TIEBEAM_EVENT_BUS__BATCH_SIZE");
    assert!(places[2].ends_with("main.prod.yaml:2") && places[3].ends_with("main.yaml:2"));
    assert_eq!(explained.value, json!(4));
    assert!(config.explain("event_bus.nothing").is_none());
}

#[test]
fn sources_may_leave_out_environment_files_and_defaults() {
    let text = "configuration: {sources: [file, defaults]}\nevent_bus: {batch_size: 7}\n";
    let loader = Loader::new()
        .text("main.yaml", text, Format::Yaml)
        .environment(pairs(&[("TIEBEAM_EVENT_BUS__BATCH_SIZE", "9"), ("X", "y")]));
    assert_eq!(loader.load().unwrap().settings().event_bus.batch_size, 7);
    let weak =
        "configuration: {sources: [file, environment, defaults]}\nevent_bus: {batch_size: 7}\n";
    let loader = Loader::new()
        .text("main.yaml", weak, Format::Yaml)
        .environment(pairs(&[("TIEBEAM_EVENT_BUS__BATCH_SIZE", "9")]));
    assert_eq!(loader.load().unwrap().settings().event_bus.batch_size, 7, "the order counts");
    let bare = Loader::new().text("m", "configuration: {sources: [file]}", Format::Yaml);
    let error = bare.load().unwrap_err();
    assert!(violations(&error).iter().all(|found| found.rule == "required"), "{error}");
    let wrong = problem("configuration: {sources: [file, enviroment]}");
    assert!(wrong.contains("did you mean `environment`?"), "{wrong}");
}

#[test]
fn a_components_file_is_stronger_than_the_main_file_and_weaker_than_the_overlay() {
    let place = Place::new(&[
        (
            "main.yaml",
            "system: {environment: prod}\ncomponents:\n  agents:\n    alpha:\n      enabled: true\n      config_file: alpha.yaml\n      window: 1\n      depth: 1\n      width: 1\n",
        ),
        ("alpha.yaml", "\nwindow: 2\ndepth: 2\nlist: [1]\n"),
        ("main.prod.yaml", "components: {agents: {alpha: {depth: 3}}}\n"),
    ]);
    let config = place.loader().load().unwrap();
    let [alpha] = config.components() else { panic!("{:?}", config.components()) };
    assert_eq!(alpha.config, json!({"window": 2, "depth": 3, "width": 1, "list": [1]}));
    assert_eq!(alpha.config_file.as_deref(), Some("alpha.yaml"));
    let origins = config.explain("components.agents.alpha.window").unwrap().origins;
    assert!(origins[0].to_string().ends_with("alpha.yaml:2"), "{}", origins[0]);
    assert!(origins[1].to_string().ends_with("main.yaml:7"), "{}", origins[1]);
    assert_eq!(config.files().len(), 3);
}

#[test]
fn a_config_file_cannot_leave_its_directory() {
    let outside = Place::new(&[("secret.yaml", "a: 1")]);
    let absolute = outside.0.path().join("secret.yaml");
    for name in ["../secret.yaml", absolute.to_str().unwrap(), "missing.yaml", "link.yaml", "."] {
        let main = format!("components:\n  alpha:\n    config_file: {name}\n");
        let place = Place::new(&[("main.yaml", &main)]);
        #[cfg(unix)]
        std::os::unix::fs::symlink(&absolute, place.0.path().join("link.yaml")).unwrap();
        let found = lines(&place.loader().load().unwrap_err());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("main.yaml:3: components.alpha.config_file: "), "{}", found[0]);
    }
    let off =
        Place::new(&[("main.yaml", "components: {a: {enabled: false, config_file: no.yaml}}")]);
    assert!(!off.loader().load().unwrap().components()[0].enabled);
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let text = "event_bus:\n  implementation: redis\n  max_retry: -1\n  batch_size: many\n  overflow: dropoldest\n  handler_timeout: 0\nevent_buss: {}\nsystem:\n  version: 1.0\nhealth: 3\n";
    let error =
        Loader::new().text("config/integration.yaml", text, Format::Yaml).load().unwrap_err();
    let found = lines(&error);
    let expected = [
        "config/integration.yaml:2: event_bus.connection_string: is required when `event_bus.implementation` is `redis`, for example `redis://localhost:6379/0`",
        "config/integration.yaml:3: event_bus.max_retry: must be >= 0, got -1",
        "config/integration.yaml:4: event_bus.batch_size: must be a whole number from 1 to 100000, got \"many\"",
        "config/integration.yaml:5: event_bus.overflow: must be one of block, drop_oldest, drop_newest, latest, sample, fail, got \"dropoldest\", did you mean `drop_oldest`?",
        "config/integration.yaml:6: event_bus.handler_timeout: must be > 0, got 0",
        "config/integration.yaml:7: event_buss: unknown key `event_buss`, did you mean `event_bus`?",
        "config/integration.yaml:9: system.version: must be a text; put it in quotes, got 1.0",
        "config/integration.yaml:10: health: must be a map, got 3",
    ];
    for line in expected {
        assert!(found.iter().any(|found| found == line), "{line}\nis not in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(found.iter().all(|found| error.message().contains(found)), "{error}");
}

#[test]
fn unknown_keys_are_warnings_when_validation_is_not_strict() {
    let config = load("configuration: {validation_strict: false}\nevent_bus:\n  max_retires: 1\n");
    let [warning] = config.warnings() else { panic!("{:?}", config.warnings()) };
    assert_eq!(
        warning.to_string(),
        "main.yaml:3: event_bus.max_retires: unknown key `max_retires`, \
         did you mean `event_bus.max_retry`?"
    );
    assert!(problem("event_bus: {max_retires: 1}").contains("unknown key"));
    let error = Loader::new()
        .environment(pairs(&[("TIEBEAM_EVENT_BUSS__MAX_RETRY", "1")]))
        .load()
        .unwrap_err();
    assert!(error.message().starts_with("TIEBEAM_EVENT_BUSS__MAX_RETRY: "), "{error}");
}

#[test]
fn references_are_replaced_once_and_keep_the_type_of_a_key() {
    let text = r#"
base: 12
system: {name: '${USER_NAME}', version: "${a}-$$-\\${a}"}
a: "x"
event_bus:
  max_retry: ${RETRIES}
  batch_size: ${base}
  capacity: ${CAP:500}
  connection_string: ${NONE:}
components:
  one: {copy: "${event_bus.batch_size}", text: "n=${event_bus.batch_size}", port: "${RETRIES}", url: "${U:redis://h:1/0}"}
"#;
    let config = Loader::new()
        .text("main.yaml", text, Format::Yaml)
        .environment(pairs(&[("USER_NAME", "${base}\nevil: true"), ("RETRIES", "5")]))
        .load()
        .unwrap();
    assert_eq!(config.settings().system.name, "${base}\nevil: true");
    assert_eq!(config.settings().system.version, "x-$$-${a}");
    assert_eq!(config.settings().event_bus.max_retry, 5);
    assert_eq!(config.settings().event_bus.batch_size, 12);
    assert_eq!(config.settings().event_bus.capacity, 500);
    assert!(config.settings().event_bus.connection_string.is_empty());
    assert_eq!(
        config.components()[0].config,
        json!({"copy": 12, "text": "n=12", "port": "5", "url": "redis://h:1/0"})
    );
}

#[test]
fn a_reference_that_cannot_be_replaced_says_why_and_where() {
    for (value, part) in [
        ("${MISSING}", "`${MISSING}` is not set; set the environment variable MISSING"),
        ("${MISSING:-x}", "write `${MISSING:x}`"),
        ("${MISSING:?x}", "write `${MISSING}`, which must be set"),
        ("${A:${B}}", "nested"),
        ("${A", "no closing"),
        ("${}", "name of a variable"),
        ("${a b}", "name of a variable"),
        ("${event_bus.nothing}", "names no key"),
        ("${event_bus}", "is a section"),
        ("${configuration.sources}", "is a list"),
        ("${system.name}", "refers to itself: system.name -> system.name"),
        ("${system.version}", "refers to itself: system.name -> system.version -> system.name"),
    ] {
        let text = format!("system:\n  name: '{value}'\n  version: '${{system.name:x}}'\n");
        let error = Loader::new().text("main.yaml", &text, Format::Yaml).load().unwrap_err();
        let found = &violations(&error)[0];
        let line = found.to_string();
        assert!(line.starts_with("main.yaml:2: system.name: "), "{line}");
        assert!(line.contains(part), "{value}: {line}");
        assert_eq!(found.rule, "interpolation");
    }
}

#[test]
fn what_a_shell_gave_is_final() {
    let config = Loader::new()
        .environment(pairs(&[("TIEBEAM_SYSTEM__NAME", "a${X}b"), ("X", "wrong")]))
        .set("system.version=${X}")
        .load()
        .unwrap();
    assert_eq!(config.settings().system.name, "a${X}b");
    assert_eq!(config.settings().system.version, "${X}");
}

#[test]
fn references_cannot_fill_the_memory_or_the_stack() {
    let mut text = String::from("components:\n  a:\n    k0: '0123456789'\n");
    for n in 1..30 {
        text.push_str(&format!(
            "    k{n}: '{}'\n",
            format!("${{components.a.k{}}}", n - 1).repeat(10)
        ));
    }
    let error = Loader::new().text("m", &text, Format::Yaml).load().unwrap_err();
    assert!(error.message().contains("grows beyond"), "{}", error.message());
    let mut text = String::from("components:\n  a:\n");
    for n in 0..5000 {
        text.push_str(&format!("    k{n}: ${{components.a.k{}}}\n", n + 1));
    }
    text.push_str("    k5000: 1\n");
    let error = Loader::new().text("m", &text, Format::Yaml).load().unwrap_err();
    assert!(error.message().contains("steps away"), "{}", error.message());
    assert!(error.message().lines().count() < 60, "a message for people");
}

#[test]
fn secrets_never_stand_in_an_error() {
    let text = "event_bus:\n  implementation: rabbitmq\n  connection_string: 'redis://u:canary@h'\n  max_retry: ${TOKEN}\nhealth: {api_key: canary}\ncomponents: {a: {enabled: 3, password: canary}}\n";
    let loader = Loader::new()
        .text("main.yaml", text, Format::Yaml)
        .environment(pairs(&[("TOKEN", "canary"), ("TIEBEAM_EVENT_BUS__BATCH_SIZE", "canary")]));
    let error = loader.load().unwrap_err();
    let shown = format!("{error} {error:?} {loader:?}");
    assert!(error.message().contains("TIEBEAM_EVENT_BUS__BATCH_SIZE: event_bus.batch_size: "));
    assert!(error.message().contains("amqp://"), "{error}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn a_malformed_list_in_a_variable_names_variable_path_text_and_type() {
    let loader = Loader::new()
        .environment(pairs(&[("TIEBEAM_SERVICE_REGISTRY__INITIALIZATION_ORDER", "3,4")]));
    let message = loader.load().unwrap_err().to_string();
    for part in ["TIEBEAM_SERVICE_REGISTRY__INIT", "service_registry.init", "3,4", "list"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn the_initialization_order_names_components_groups_or_nothing() {
    let with = |order: &str| {
        let head = "components: {agents: {alpha: {enabled: true}}, beta: {}}\n";
        format!("{head}service_registry: {{initialization_order: [{order}]}}\n")
    };
    load(&with("agents, alpha, beta"));
    load(&with("agents.alpha"));
    let line = problem(&with("agents, alpa"));
    assert!(line.contains("names `alpa`") && line.contains("did you mean `alpha`?"), "{line}");
    assert!(problem(&with("beta, beta")).contains("twice"));
    let known = Loader::new().text("m", with("gamma"), Format::Yaml).known_components(["gamma"]);
    known.load().unwrap();
    let alone = load("service_registry: {initialization_order: [data_collection]}");
    assert_eq!(alone.warnings().len(), 1, "the program may bring it");
}

#[test]
fn a_section_is_a_group_or_a_component() {
    let line = problem("components:\n  agents:\n    enabled: true\n    alpha: {class: 'a:B'}\n");
    assert!(line.starts_with("main.yaml:2: components.agents: is a component"), "{line}");
    let line = problem("components: {a: {x: {enabled: true}}, x: {enabled: true}}");
    assert!(line.contains("already used by `components.a.x`"), "{line}");
    assert!(problem("components: {a: {class: nonsense}}").contains("package.module:Class"));
    assert!(problem("components: {a: 3}").contains("must be a map"));
    assert!(problem("components: {a: {restart: always}}").contains("permanent, transient"));
}

#[test]
fn files_that_are_none_are_refused_with_their_name() {
    let place = Place::new(&[("main.yaml", "a: [1\n"), ("main.ini", "x"), ("empty.yaml", "")]);
    let path = |name: &str| place.0.path().join(name);
    for (name, part) in
        [("main.yaml", "main.yaml"), ("main.ini", ".toml"), ("none.yaml", "exist"), ("", "")]
    {
        let error = Loader::new().file(path(name)).load().unwrap_err();
        assert!(error.message().contains(part), "{name}: {error}");
    }
    Loader::new().file(path("empty.yaml")).load().unwrap();
    let both = Loader::new().file(path("main.yaml")).file(path("none.yaml")).load().unwrap_err();
    assert_eq!(violations(&both).len(), 2, "{both}");
}

#[test]
fn an_empty_section_says_nothing() {
    let config = load("event_bus:\n#  batch_size: 1\ncomponents:\n  alpha:\n");
    assert_eq!(config.settings().event_bus.batch_size, 100);
    assert_eq!(config.components()[0].config, json!({}));
}

#[test]
fn toml_and_json_are_main_files_too() {
    let config = Loader::new()
        .text(
            "a.toml",
            "[event_bus]\nbatch_size = 5\n[health]\ncheck_interval = \"2m\"\n",
            Format::Toml,
        )
        .text("b.json", "{\"event_bus\": {\"max_retry\": 0}}", Format::Json)
        .load()
        .unwrap();
    assert_eq!(config.settings().event_bus.batch_size, 5);
    assert_eq!(config.settings().health.check_interval, Duration::from_secs(120));
    assert_eq!(config.place("event_bus.batch_size").as_deref(), Some("a.toml:2"));
    assert_eq!(config.place("event_bus.max_retry").as_deref(), Some("b.json:1"));
}

#[test]
fn a_change_is_proposed_committed_and_rolled_back() {
    let place = Place::new(&[("main.yaml", "event_bus: {batch_size: 1}\n")]);
    let store = ConfigStore::open(place.loader(), stamp("start")).unwrap();
    assert!(store.reload().unwrap().diff().is_empty());

    place.write("main.yaml", "event_bus: {batch_size: 2}\n");
    let proposal = store.reload().unwrap();
    assert_eq!(proposal.diff().paths(), ["event_bus.batch_size"]);
    assert!(proposal.diff().touches("event_bus") && !proposal.diff().touches("health"));
    assert_eq!(store.current().settings().event_bus.batch_size, 1, "nothing has happened yet");
    let other = store.propose(&[("health.history_length".into(), json!(5))]).unwrap();
    assert_eq!(store.commit(proposal, stamp("file")).unwrap().revision(), 2);
    assert!(store.commit(other, stamp("api")).is_err(), "proposed on revision 1");

    let set = store.propose(&[("event_bus.batch_size".into(), json!(3))]).unwrap();
    store.commit(set, stamp("api")).unwrap();
    place.write("main.yaml", "event_bus: {batch_size: 9}\n");
    assert!(store.reload().unwrap().diff().is_empty(), "a masked edit changes nothing");

    let back = store.rollback(1, stamp("alice")).unwrap();
    assert_eq!((back.revision(), back.settings().event_bus.batch_size), (4, 1));
    let history = store.history();
    assert_eq!(history.len(), 4);
    assert_eq!(history[3].rollback_of, Some(1));
    assert_eq!(history[0].config.digest(), back.digest());
    assert!(store.rollback(77, stamp("alice")).unwrap_err().message().contains("1 to 4"));
}

#[test]
fn a_bad_source_leaves_the_running_revision_untouched() {
    let place = Place::new(&[("main.yaml", "event_bus: {batch_size: 1}\n")]);
    let store = ConfigStore::open(place.loader(), stamp("start")).unwrap();
    for bad in ["event_bus: [", "event_bus: {batch_size: abc}", "event_bus: {batch: 1}"] {
        place.write("main.yaml", bad);
        assert!(store.reload().is_err(), "{bad}");
    }
    std::fs::remove_file(place.0.path().join("main.yaml")).unwrap();
    assert!(store.reload().is_err());
    assert!(store.propose(&[("event_bus..x".into(), json!(1))]).is_err());
    assert_eq!(store.current().revision(), 1);
    assert_eq!(store.history().len(), 1);
}

#[test]
fn the_history_keeps_the_last_twenty() {
    let store = ConfigStore::open(Loader::new(), stamp("start")).unwrap();
    for n in 1..=30 {
        let proposal = store.propose(&[("event_bus.batch_size".into(), json!(n))]).unwrap();
        store.commit(proposal, stamp("api")).unwrap();
    }
    let ids: Vec<_> = store.history().iter().map(|revision| revision.id).collect();
    assert_eq!(ids, (12..=31).collect::<Vec<_>>());
}

#[test]
fn a_diff_prints_no_secret() {
    let one = load("components: {a: {password: canary}}");
    let two = load("components: {a: {password: canary2, url: 'amqp://u:canary@h'}}");
    let diff = tiebeam::config::Diff::between(&one, &two);
    assert_eq!(diff.paths().len(), 2);
    assert!(!format!("{diff:?}").contains("canary"), "{diff:?}");
}

#[test]
fn values_of_a_program_are_a_source() {
    let mut tree = Map::new();
    tree.insert("event_bus".into(), json!({"batch_size": 0}));
    let message = Loader::new().values("<config>", tree).load().unwrap_err().to_string();
    assert_eq!(message, "<config>: event_bus.batch_size: must be >= 1, got 0");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for format in [Format::Yaml, Format::Json, Format::Toml] {
            let _ = Loader::new().text("any", &bytes, format).load();
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "([a-z]{1,3}: |[-\\[\\]{}&*!|>'\"#%@`,?$.:]|\n|  |\\PC){0,40}") {
        for format in [Format::Yaml, Format::Json, Format::Toml] {
            let _ = Loader::new().text("any", &text, format).load();
        }
        let value = format!("system: {{name: {}}}", serde_json::Value::from(text.clone()));
        let _ = Loader::new().text("any", value, Format::Yaml).load();
        let _ = Loader::new().set(text.clone()).load();
        let _ = Loader::new().environment([(format!("TIEBEAM_A__{text}"), text)]).load();
    }
}
