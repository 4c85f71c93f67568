//! What was said to the operator, by the tasks of this thread.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, set_default},
};

/// Collects this crate's lines of INFO and above for as long as it lives.
#[derive(Debug)]
pub(crate) struct Logged {
    lines: Lines,
    _guard: DefaultGuard,
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Logged {
    pub(crate) fn start() -> Self {
        let lines = Lines::default();
        Self { _guard: set_default(lines.clone()), lines }
    }

    /// The lines of this level since the last call; those of others are dropped.
    pub(crate) fn take(&self, level: Level) -> Vec<String> {
        let lines = std::mem::take(&mut *self.lines.0.lock().unwrap());
        lines.into_iter().filter(|(of, _)| *of == level).map(|(_, line)| line).collect()
    }

    /// How many lines there are from WARN up.
    pub(crate) fn alarms(&self) -> usize {
        self.lines.0.lock().unwrap().iter().filter(|(level, _)| *level <= Level::WARN).count()
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mytunnel") && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push((*event.metadata().level(), line.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
