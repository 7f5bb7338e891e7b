//! Metrics as text, in the two forms that scrapers read.
//!
//! OpenMetrics 1.0 and the older text format of Prometheus differ in how a counter's family is
//! called, in what a set of states is, and in the end of the text. The libraries for Rust that
//! there are write one of them, and have no set of states.

use std::fmt::Write;

/// The form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own, version 0.0.4.
    Prometheus,
}

impl Form {
    /// The media type of the text.
    pub fn media_type(self) -> &'static str {
        match self {
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
    StateSet,
}

impl Kind {
    /// The name of the type, and what its samples are called beside the family.
    fn words(self, form: Form) -> (&'static str, &'static str) {
        match (self, form) {
            (Kind::Counter, _) => ("counter", "_total"),
            (Kind::Gauge, _) => ("gauge", ""),
            (Kind::Histogram, _) => ("histogram", ""),
            (Kind::Info, Form::OpenMetrics) => ("info", "_info"),
            (Kind::Info, Form::Prometheus) => ("gauge", "_info"),
            (Kind::StateSet, Form::OpenMetrics) => ("stateset", ""),
            (Kind::StateSet, Form::Prometheus) => ("gauge", ""),
        }
    }
}

/// Labels of a series: names, which are ours, and values, which may be anything.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// What is written: families one after the other, each with its series.
#[derive(Debug)]
pub struct Exposition {
    form: Form,
    text: String,
}

/// The series of one family.
#[derive(Debug)]
pub struct Family<'a> {
    out: &'a mut Exposition,
    name: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
    kind: Kind,
    begun: bool,
}

/// The units that a name may end with; OpenMetrics names them beside.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

impl Exposition {
    /// Nothing yet.
    pub fn new(form: Form) -> Self {
        Exposition { form, text: String::with_capacity(16 * 1024) }
    }

    /// A total that only grows. `name` is without `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(Kind::Counter, name, help)
    }

    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(Kind::Gauge, name, help)
    }

    /// How values are spread.
    pub fn histogram(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(Kind::Histogram, name, help)
    }

    /// Texts that do not change. `name` is without `_info`.
    pub fn info(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(Kind::Info, name, help)
    }

    /// Which one of some states it is.
    pub fn states(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(Kind::StateSet, name, help)
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn family(&mut self, kind: Kind, name: &'static str, help: &'static str) -> Family<'_> {
        let unit = UNITS
            .into_iter()
            .find(|unit| name.strip_suffix(unit).is_some_and(|before| before.ends_with('_')));
        Family { out: self, name, unit, help, kind, begun: false }
    }
}

impl Family<'_> {
    /// A series with this value. Each set of labels may come once.
    pub fn add(&mut self, labels: Labels<'_>, value: f64) {
        let suffix = self.kind.words(self.out.form).1;
        self.sample(suffix, labels, None, value);
    }

    /// A series with this value, if there is one.
    pub fn add_some(&mut self, labels: Labels<'_>, value: Option<f64>) {
        if let Some(value) = value {
            self.add(labels, value);
        }
    }

    /// The series of a set of states: 1 for the one that it is in, 0 for the others.
    pub fn add_state<'s>(
        &mut self,
        labels: Labels<'_>,
        all: impl IntoIterator<Item = &'s str>,
        present: &str,
    ) {
        let name = self.name;
        for state in all {
            let value = f64::from(u8::from(state == present));
            self.sample("", labels, Some((name, state)), value);
        }
    }

    /// The series of a histogram: how many values were at most each bound, how many there were,
    /// and their sum. `counts` has one entry more than `bounds`, for those above.
    pub fn add_histogram(&mut self, labels: Labels<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut total = 0;
        for (at, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(at).copied().unwrap_or(f64::INFINITY);
            // With its point, as OpenMetrics has it.
            let text = if bound.is_infinite() { "+Inf".into() } else { format!("{bound:?}") };
            self.sample("_bucket", labels, Some(("le", &text)), total as f64);
        }
        self.sample("_sum", labels, None, sum);
        self.sample("_count", labels, None, total as f64);
    }

    /// The lines before the first series; a family without any is left out.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let (form, text) = (self.out.form, &mut self.out.text);
        let (word, suffix) = self.kind.words(form);
        // The older form calls a family what its samples are called.
        let suffix = if form == Form::Prometheus { suffix } else { "" };
        let name = self.name;
        let _ = writeln!(text, "# TYPE {name}{suffix} {word}");
        if let (Some(unit), Form::OpenMetrics) = (self.unit, form) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = write!(text, "# HELP {name}{suffix} ");
        escape(text, self.help, form == Form::OpenMetrics);
        text.push('\n');
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, last: Option<(&str, &str)>, value: f64) {
        self.begin();
        let text = &mut self.out.text;
        text.push_str(self.name);
        text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            text.push(separator);
            let _ = write!(text, "{name}=\"");
            escape(text, value, true);
            text.push('"');
            separator = ',';
        }
        if separator == ',' {
            text.push('}');
        }
        text.push(' ');
        let _ = match value {
            _ if value.is_nan() => write!(text, "NaN"),
            _ if value.is_infinite() => write!(text, "{}Inf", if value > 0.0 { '+' } else { '-' }),
            _ => write!(text, "{value}"),
        };
        text.push('\n');
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form) -> String {
        let mut out = Exposition::new(form);
        out.counter("a_events", "What \"came\",\nwhere \\.").add(&[("of", "x\"\\\ny")], 3.0);
        out.gauge("b_wait_seconds", "Wait.").add(&[], 0.25);
        out.gauge("left_out", "Nothing.").add_some(&[], None);
        out.states("c_state", "State.").add_state(&[("of", "x")], ["on", "off"], "off");
        out.info("d", "Texts.").add(&[("version", "1")], 1.0);
        out.histogram("e_seconds", "Spread.").add_histogram(&[], &[0.1, 1.0], &[2, 0, 1], 5.5);
        out.gauge("f", "Odd.").add(&[], f64::NAN);
        out.gauge("g", "Odd.").add(&[], f64::NEG_INFINITY);
        out.finish()
    }

    #[test]
    fn openmetrics() {
        let text = written(Form::OpenMetrics);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# TYPE a_events counter");
        assert_eq!(lines[1], r#"# HELP a_events What \"came\",\nwhere \\."#);
        assert_eq!(lines[2], r#"a_events_total{of="x\"\\\ny"} 3"#);
        assert_eq!(lines[4], "# UNIT b_wait_seconds seconds");
        assert!(lines.contains(&"# TYPE c_state stateset"));
        assert!(lines.contains(&r#"c_state{of="x",c_state="on"} 0"#));
        assert!(lines.contains(&r#"c_state{of="x",c_state="off"} 1"#));
        assert!(lines.contains(&"# TYPE d info"));
        assert!(lines.contains(&r#"d_info{version="1"} 1"#));
        assert!(lines.contains(&r#"e_seconds_bucket{le="1.0"} 2"#));
        assert!(lines.contains(&r#"e_seconds_bucket{le="+Inf"} 3"#));
        assert!(lines.contains(&"e_seconds_count 3") && lines.contains(&"e_seconds_sum 5.5"));
        assert!(lines.contains(&"f NaN") && lines.contains(&"g -Inf"));
        assert!(!text.contains("left_out"));
        assert_eq!(lines.last(), Some(&"# EOF"));
    }

    #[test]
    fn the_older_form() {
        let text = written(Form::Prometheus);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# TYPE a_events_total counter");
        assert_eq!(lines[1], r#"# HELP a_events_total What "came",\nwhere \\."#);
        assert!(lines.contains(&"# TYPE c_state gauge"));
        assert!(lines.contains(&"# TYPE d_info gauge"));
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
    }
}
