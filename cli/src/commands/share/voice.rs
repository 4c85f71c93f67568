//! In whose name something is told: of the only share of a process, or of one of several.

use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::report::{Report, Style};

/// A [`Report`] that says of which share it speaks, where there are several.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    report: Report,
    name: Option<Arc<str>>,
}

impl Voice {
    /// Of the only one.
    pub(crate) const fn alone(report: Report) -> Self {
        Self { report, name: None }
    }

    /// Of the one that is called this.
    pub(crate) fn of(report: Report, name: &str) -> Self {
        Self { report, name: Some(name.into()) }
    }

    /// A line of the result, for people.
    pub(crate) fn line(&self, text: impl Display) {
        self.report.line(self.report.styled(Style::Strong, text));
    }

    /// A remark beside the result, for people only.
    pub(crate) fn note(&self, text: impl Display) {
        match &self.name {
            Some(name) => self.report.note(format_args!("{name}: {text}")),
            None => self.report.note(text),
        }
    }

    /// Something that wants attention but stops nothing.
    pub(crate) fn warn(&self, text: impl Display) {
        match &self.name {
            Some(name) => self.report.warn(format_args!("{name}: {text}")),
            None => self.report.warn(text),
        }
    }

    /// The result, or one event of it, for scripts.
    pub(crate) fn object(&self, value: &impl Serialize) {
        match &self.name {
            Some(name) if self.report.is_json() => self.report.object(&named(value, name)),
            Some(_) | None => self.report.object(value),
        }
    }

    /// Whether it is the only one.
    pub(crate) const fn is_alone(&self) -> bool {
        self.name.is_none()
    }
}

/// An event with the name of its share, where it has none of its own.
fn named(value: &impl Serialize, name: &str) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.entry("name").or_insert_with(|| name.into());
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_has_the_name_of_its_share_once() {
        assert_eq!(named(&json!({"event": "path"}), "web"), json!({"event": "path", "name": "web"}));
        assert_eq!(named(&json!({"name": "real"}), "web"), json!({"name": "real"}));
    }
}
