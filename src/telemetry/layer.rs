//! From the core's tracing events to log records.

use std::error::Error as StdError;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::active::{active, enabled};
use super::format::Record;
use super::output::add;

/// Hands events to whichever sink is active; a span's fields are part of the events in it.
#[derive(Debug)]
pub(super) struct RecordLayer;

#[derive(Debug)]
struct SpanFields(Map<String, Value>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for RecordLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        enabled(*metadata.level(), metadata.target())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let fields = collect(|visitor| attributes.record(visitor));
        if let (Some(span), Some(collected)) = (ctx.span(id), fields) {
            span.extensions_mut().insert(SpanFields(collected.fields));
        }
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, ctx: Context<'_, S>) {
        // Collected first: formatting a value is foreign code and must not run under a lock.
        let fields = collect(|visitor| values.record(visitor));
        if let (Some(span), Some(collected)) = (ctx.span(id), fields)
            && let Some(SpanFields(known)) = span.extensions_mut().get_mut()
        {
            known.extend(collected.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let active = active();
        let Some(sink) = active.as_ref() else { return };
        let Some(own) = collect(|visitor| event.record(visitor)) else {
            return add(&sink.counters.lost, 1);
        };
        let mut fields = Map::new();
        for span in ctx.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(SpanFields(outer)) = span.extensions().get() {
                fields.extend(outer.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        fields.extend(own.fields);
        let metadata = event.metadata();
        let time = sink.clock.unix_ms();
        sink.push(Record::new(time, *metadata.level(), metadata.target(), own.message, fields));
    }
}

/// Runs a visit; none if a value's formatting panicked.
fn collect(visit: impl FnOnce(&mut Collector)) -> Option<Collector> {
    let mut collector = Collector::default();
    catch_unwind(AssertUnwindSafe(|| visit(&mut collector))).ok()?;
    Some(collector)
}

#[derive(Debug, Default)]
struct Collector {
    message: String,
    fields: Map<String, Value>,
}

impl Collector {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn put_text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            _ => self.put(field, text),
        }
    }
}

impl Visit for Collector {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // A formatting that reports an error has still said something.
        let _ = write!(text, "{value:?}");
        self.put_text(field, text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no number for these: null would hide which one it was.
        match value.is_finite() {
            true => self.put(field, value),
            false => self.put(field, value.to_string()),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        let mut text = String::new();
        let mut next = Some(value);
        while let Some(error) = next {
            let _ = write!(text, "{}{error}", if text.is_empty() { "" } else { ": " });
            next = error.source();
        }
        self.put_text(field, text);
    }
}
