//! From sources to a snapshot.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::Result;

use super::components;
use super::document::{self, Document, Format};
use super::interpolate;
use super::layers::{self, Merged, Source, lookup};
use super::origin::{Layer, Origin};
use super::schema;
use super::snapshot::{Config, Findings};
use super::text::from_text;
use super::validate::Validator;
use super::violation::{self, Violation};
use super::{files, path, variables};

/// Collects sources and loads them, as often as asked.
///
/// ```
/// # use tiebeam::config::{Format, Loader};
/// let config = Loader::new()
///     .text("app.yaml", "event_bus: {max_retry: 5}", Format::Yaml)
///     .environment([("TIEBEAM_EVENT_BUS__BATCH_SIZE".into(), "50".into())])
///     .set("health.check_interval=5s")
///     .load()?;
/// assert_eq!(config.settings().event_bus.max_retry, 5);
/// assert_eq!(config.settings().event_bus.batch_size, 50);
/// # Ok::<(), tiebeam::error::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Loader {
    mains: Vec<Main>,
    variables: Vec<(String, String)>,
    sets: Vec<String>,
    overrides: Vec<(String, Value)>,
    known: Vec<String>,
    plugins: Vec<Plugin>,
}

/// A source that a plugin brings, read whenever the files are.
#[derive(Clone)]
struct Plugin {
    name: String,
    read: Arc<dyn Fn() -> Map<String, Value> + Send + Sync>,
}

#[derive(Clone)]
enum Main {
    Path(PathBuf),
    Text { name: String, bytes: Vec<u8>, format: Format },
    Tree { name: String, tree: Map<String, Value> },
}

/// Says how much, not what: variables and texts hold secrets.
impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("main_sources", &self.mains.len())
            .field("variables", &self.variables.len())
            .field("sets", &self.sets.len())
            .field("overrides", &self.overrides.len())
            .field("plugins", &self.plugins.len())
            .finish()
    }
}

impl Loader {
    /// A loader with the built-in defaults only.
    pub fn new() -> Self {
        Loader::default()
    }

    /// Adds a main file (`.yaml`, `.yml`, `.json` or `.toml`); later files win.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.mains.push(Main::Path(path.into()));
        self
    }

    /// Adds a text in place of a main file; `name` stands in messages.
    ///
    /// It has no directory: a `config_file` in it is looked for beside the first main file.
    #[must_use]
    pub fn text(mut self, name: &str, text: impl AsRef<[u8]>, format: Format) -> Self {
        let bytes = text.as_ref().to_vec();
        self.mains.push(Main::Text { name: name.to_owned(), bytes, format });
        self
    }

    /// Adds values that a program made, in place of a main file; `name` stands in messages.
    #[must_use]
    pub fn values(mut self, name: &str, tree: Map<String, Value>) -> Self {
        self.mains.push(Main::Tree { name: name.to_owned(), tree });
        self
    }

    /// Adds what `read` gives, each time that the sources are read: above files and below the
    /// environment; `name` stands in messages.
    #[must_use]
    pub fn plugin(
        mut self,
        name: &str,
        read: impl Fn() -> Map<String, Value> + Send + Sync + 'static,
    ) -> Self {
        self.plugins.push(Plugin { name: name.to_owned(), read: Arc::new(read) });
        self
    }

    /// Gives the process environment: for `TIEBEAM_A__B` and for `${NAME}`.
    #[must_use]
    pub fn environment(mut self, pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(pairs);
        self
    }

    /// Adds an argument `a.b=c` of the command line; later ones win.
    #[must_use]
    pub fn set(mut self, pair: impl Into<String>) -> Self {
        self.sets.push(pair.into());
        self
    }

    /// Sets a value above all other sources.
    #[must_use]
    pub fn overriding(mut self, path: impl Into<String>, value: Value) -> Self {
        let path = path.into();
        self.overrides.retain(|(known, _)| *known != path);
        self.overrides.push((path, value));
        self
    }

    /// Names components that the program brings, so that `initialization_order` may name them.
    #[must_use]
    pub fn known_components<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.known.extend(names.into_iter().map(Into::into));
        self
    }

    pub(super) fn with_overrides(&self, overrides: Vec<(String, Value)>) -> Self {
        Loader { overrides, ..self.clone() }
    }

    pub(super) fn overrides(&self) -> &[(String, Value)] {
        &self.overrides
    }

    /// Reads every source and makes a valid snapshot of them, as revision 1.
    ///
    /// # Errors
    /// One configuration error with every [`Violation`]; see [`super::violations`].
    pub fn load(&self) -> Result<Config> {
        let mut loading = Loading { loader: self, problems: Vec::new(), files: Vec::new() };
        let loaded = loading.run();
        match loaded {
            Some((merged, warnings)) if loading.problems.is_empty() => {
                let overrides = self.overrides.clone();
                Config::new(merged, Findings { warnings, files: loading.files, overrides })
            }
            _ => Err(violation::error("load", in_order(loading.problems))),
        }
    }
}

impl Plugin {
    fn source(&self) -> Source {
        let mut tree = (self.read)();
        layers::drop_empty_sections(&mut tree);
        Source { file: Some(self.name.clone()), tree, ..Source::new(Layer::Plugin) }
    }
}

/// By file and line, as one reads; what has no line keeps its turn at the end.
fn in_order(mut found: Vec<Violation>) -> Vec<Violation> {
    let place = |violation: &Violation| {
        let origin = violation.origin.as_ref();
        let file = origin.and_then(|origin| origin.file.clone());
        (file.is_none(), file, origin.and_then(|origin| origin.line))
    };
    found.sort_by_key(place);
    found
}

/// One run of [`Loader::load`].
struct Loading<'a> {
    loader: &'a Loader,
    problems: Vec<Violation>,
    files: Vec<PathBuf>,
}

impl Loading<'_> {
    fn run(&mut self) -> Option<(Merged, Vec<Violation>)> {
        let mains: Vec<Source> =
            self.loader.mains.iter().filter_map(|main| main_source(main, self)).collect();
        let defaults = Source { tree: schema::defaults(), ..Source::new(Layer::Defaults) };
        let plugins: Vec<Source> = self.loader.plugins.iter().map(Plugin::source).collect();
        let mut below = Map::new();
        for source in std::iter::once(&defaults).chain(&mains).chain(&plugins) {
            path::merge(&mut below, source.tree.clone());
        }
        let outside = [
            variables::environment(&self.loader.variables, &below, &mut self.problems),
            variables::command_line(&self.loader.sets, &mut self.problems),
            variables::runtime(&self.loader.overrides),
        ];
        // Nothing can be said about keys while a whole file is missing from the picture.
        if !self.problems.is_empty() {
            return None;
        }
        let by_name = variables::by_name(&self.loader.variables);
        let sources =
            [std::slice::from_ref(&defaults), mains.as_slice(), &plugins, &outside].concat();
        let preliminary = layers::merge(sources);
        let environment = interpolate::scalar(&preliminary, "system.environment", &by_name);
        let overlays = self.overlays(environment.as_ref().and_then(Value::as_str));
        let sources =
            [std::slice::from_ref(&defaults), mains.as_slice(), &overlays, &plugins, &outside]
                .concat();
        let preliminary = layers::merge(sources);
        let owned = self.component_files(&preliminary, &by_name);
        if !self.problems.is_empty() {
            return None;
        }
        let order = lookup(&preliminary.tree, "configuration.sources").cloned();
        let [environment, command_line, runtime] = outside;
        let files = [mains, owned, overlays, plugins].concat();
        let mut sources = Vec::new();
        for name in layers::in_use(order.as_ref()).iter().rev() {
            match *name {
                "environment" => sources.push(environment.clone()),
                "file" => sources.extend(files.iter().cloned()),
                _ => sources.push(defaults.clone()),
            }
        }
        sources.extend([command_line, runtime]);
        let mut merged = layers::merge(sources);
        let interpolated = interpolate::interpolate(&mut merged, &by_name, &mut self.problems);
        let mut tree = merged.tree.clone();
        let mut validator = Validator {
            merged: &merged,
            interpolated: &interpolated,
            known: &self.loader.known,
            problems: Vec::new(),
            lenient: Vec::new(),
        };
        validator.run(&mut tree);
        let Validator { problems, lenient, .. } = validator;
        // A reference that leads nowhere is one mistake, not also a wrong value.
        let broken: Vec<_> = self.problems.iter().map(|problem| problem.path.clone()).collect();
        self.problems.extend(problems.into_iter().filter(|found| !broken.contains(&found.path)));
        let strict = lookup(&tree, "configuration.validation_strict") != Some(&Value::Bool(false));
        let (errors, warnings): (Vec<_>, _) =
            lenient.into_iter().partition(|found| strict && found.rule != "unchecked_name");
        self.problems.extend(errors);
        merged.tree = tree;
        Some((merged, warnings))
    }

    /// A parsed file as a source; what is wrong with it becomes a problem.
    fn source(
        &mut self,
        layer: Layer,
        name: &str,
        format: Option<Format>,
        bytes: Result<Vec<u8>, String>,
    ) -> Option<Source> {
        let parsed = match (bytes, format) {
            (Err(message), _) => Err((None, "file", message)),
            (Ok(_), None) => {
                let message = "must end in .yaml, .yml, .json or .toml".to_owned();
                Err((None, "file", message))
            }
            (Ok(bytes), Some(format)) => document::parse(&bytes, format)
                .map_err(|error| (error.line, "syntax", error.message)),
        };
        match parsed {
            Ok(document) => {
                let Document { mut tree, lines } = document;
                if layer != Layer::ComponentFile {
                    layers::drop_empty_sections(&mut tree);
                }
                Some(Source { file: Some(name.into()), tree, lines, ..Source::new(layer) })
            }
            Err((line, rule, message)) => {
                let origin = Origin::file(layer, name, line);
                self.problems.push(Violation::new(rule, "", message).at(Some(origin)));
                None
            }
        }
    }

    /// `<main>.<environment>.<extension>` beside each main file, where there is one.
    fn overlays(&mut self, environment: Option<&str>) -> Vec<Source> {
        // A name that is none is reported by validation and must not become a path.
        let Some(environment) = environment.filter(|name| schema::is_name(name)) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for main in &self.loader.mains {
            let Main::Path(main) = main else { continue };
            let Some(stem) = main.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let extension = main.extension().and_then(|e| e.to_str()).unwrap_or("yaml");
            let path = main.with_file_name(format!("{stem}.{environment}.{extension}"));
            self.files.push(path.clone());
            if path.symlink_metadata().is_err() {
                continue;
            }
            let name = path.display().to_string();
            let source =
                self.source(Layer::OverlayFile, &name, Format::of(&path), files::read(&path));
            found.extend(source.map(|source| Source { directory: directory(&path), ..source }));
        }
        found
    }

    /// Each enabled component's `config_file`, below the component's own section.
    fn component_files(
        &mut self,
        merged: &Merged,
        variables: &std::collections::HashMap<&str, &str>,
    ) -> Vec<Source> {
        let mut found = Vec::new();
        let first = self.loader.mains.iter().find_map(|main| match main {
            Main::Path(path) => directory(path),
            _ => None,
        });
        for section in components::sections(&merged.tree) {
            let at = path::join(&section.path, "config_file");
            let switch =
                interpolate::scalar(merged, &path::join(&section.path, "enabled"), variables);
            let off = switch.as_ref().is_some_and(|value| match value {
                Value::String(text) => {
                    from_text(&schema::Kind::Flag, text) == Some(Value::Bool(false))
                }
                other => *other == Value::Bool(false),
            });
            let name = interpolate::scalar(merged, &at, variables);
            // A file that is no text is reported by validation.
            let Some(name) = name.as_ref().and_then(Value::as_str).filter(|_| !off) else {
                continue;
            };
            let directory = merged.winner(&at).and_then(|source| source.directory.clone());
            let origin = merged.origin(&at);
            let Some(directory) = directory.or_else(|| first.clone()) else {
                let message =
                    format!("`{name}` is looked for beside a main file, and there is none");
                self.problems.push(Violation::new("file", &at, message).at(origin));
                continue;
            };
            let path = directory.join(name);
            let bytes = match files::read_confined(&directory, name) {
                Ok(bytes) => bytes,
                Err(message) => {
                    let message = format!("`{name}`: {message}");
                    self.problems.push(Violation::new("file", &at, message).at(origin));
                    continue;
                }
            };
            self.files.push(path.clone());
            let shown = path.display().to_string();
            let source = self.source(Layer::ComponentFile, &shown, Format::of(&path), Ok(bytes));
            found.extend(source.and_then(|source| self.move_below(source, &section.path)));
        }
        found
    }

    /// Puts what a component's file says into the component's section.
    fn move_below(&mut self, source: Source, section: &str) -> Option<Source> {
        if source.tree.contains_key("config_file") {
            let message = "a component's file cannot name another `config_file`";
            let problem = Violation::new("file", "config_file", message);
            self.problems.push(problem.at(Some(source.origin("config_file"))));
            return None;
        }
        let mut tree = Map::new();
        path::set(&mut tree, section, Value::Object(source.tree));
        let lines = source.lines.into_iter();
        let lines = lines.map(|(key, line)| (path::join(section, &key), line)).collect();
        Some(Source {
            tree,
            lines,
            ..Source { tree: Map::new(), lines: Default::default(), ..source }
        })
    }
}

fn main_source(main: &Main, loading: &mut Loading<'_>) -> Option<Source> {
    match main {
        Main::Path(path) => {
            let name = path.display().to_string();
            loading.files.push(path.clone());
            let source =
                loading.source(Layer::MainFile, &name, Format::of(path), files::read(path))?;
            Some(Source { directory: directory(path), ..source })
        }
        Main::Text { name, bytes, format } => {
            loading.source(Layer::MainFile, name, Some(*format), Ok(bytes.clone()))
        }
        Main::Tree { name, tree } => {
            let mut tree = tree.clone();
            layers::drop_empty_sections(&mut tree);
            Some(Source { file: Some(name.clone()), tree, ..Source::new(Layer::MainFile) })
        }
    }
}

/// Where a file is; a bare name is in the working directory.
fn directory(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}
