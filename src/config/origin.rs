//! Where a value comes from.

use std::fmt;

use serde_json::Value;

/// A kind of source, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Built in.
    Defaults,
    /// A main file.
    MainFile,
    /// A component's `config_file`.
    ComponentFile,
    /// `<main>.<system.environment>.yaml`.
    OverlayFile,
    /// What a plugin brings.
    Plugin,
    /// A variable `TIEBEAM_A__B`.
    Environment,
    /// `--set a.b=c`.
    CommandLine,
    /// Set while the system runs.
    Runtime,
}

impl Layer {
    /// The name used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Defaults => "defaults",
            Layer::MainFile => "file",
            Layer::ComponentFile => "component file",
            Layer::OverlayFile => "overlay file",
            Layer::Plugin => "plugin",
            Layer::Environment => "environment",
            Layer::CommandLine => "command line",
            Layer::Runtime => "runtime",
        }
    }

    /// Whether the layer is a file.
    pub fn is_file(self) -> bool {
        matches!(self, Layer::MainFile | Layer::ComponentFile | Layer::OverlayFile)
    }
}

/// The place of one value in one source; displays as `config/a.yaml:3` or the variable's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The kind of source.
    pub layer: Layer,
    /// The file as it was named, for file layers; of a plugin its name.
    pub file: Option<String>,
    /// The line in that file, from 1, where it is known.
    pub line: Option<u32>,
    /// The environment variable, for that layer.
    pub variable: Option<String>,
    /// The key, for the command line.
    pub option: Option<String>,
    /// What the source says, before interpolation, redacted.
    pub raw: Value,
}

impl Origin {
    /// An origin in `layer` about which nothing else is known.
    pub(super) fn new(layer: Layer) -> Self {
        Origin { layer, file: None, line: None, variable: None, option: None, raw: Value::Null }
    }

    /// A place in a file.
    pub(super) fn file(layer: Layer, file: &str, line: Option<u32>) -> Self {
        Origin { file: Some(file.to_owned()), line, ..Origin::new(layer) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line, &self.variable, &self.option) {
            (Some(file), Some(line), ..) => write!(f, "{file}:{line}"),
            (Some(file), None, ..) => f.write_str(file),
            (_, _, Some(variable), _) => f.write_str(variable),
            (_, _, _, Some(option)) => write!(f, "--set {option}"),
            _ => f.write_str(self.layer.as_str()),
        }
    }
}

/// A value and everything that wanted to decide it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The path that was asked about.
    pub path: String,
    /// The value in effect, redacted.
    pub value: Value,
    /// Every source that has the path, strongest first; the first one decided.
    pub origins: Vec<Origin>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.path, self.value)?;
        for (at, origin) in self.origins.iter().enumerate() {
            let verb = if at == 0 { "from" } else { "over" };
            write!(f, "\n    {verb} {} ({}): {}", origin, origin.layer.as_str(), origin.raw)?;
        }
        Ok(())
    }
}
