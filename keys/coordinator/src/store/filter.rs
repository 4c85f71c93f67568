//! Texts put together from the parts that a filter asks for.
//!
//! Each combination is a text of its own, so that an engine plans it for what is asked and finds an index. One text for
//! all of them (`$1 IS NULL OR …`) would be planned for the worst.

use super::sql::Value;

/// A text with its parameters, which are numbered as they come.
#[derive(Debug, Clone)]
pub(super) struct Text {
    sql: String,
    params: Vec<Value>,
}

impl Text {
    /// Begins a text; each `?` in it stands for the next of its parameters.
    pub(super) fn new(start: &str, params: &[Value]) -> Self {
        Self { sql: String::new(), params: Vec::new() }.and(start, params)
    }

    /// The text with another part behind it.
    pub(super) fn and(mut self, part: &str, params: &[Value]) -> Self {
        let mut left = params.iter();
        for (index, piece) in part.split('?').enumerate() {
            if index > 0 {
                self.params.extend(left.next().cloned());
                self.sql.push('$');
                self.sql.push_str(&self.params.len().to_string());
            }
            self.sql.push_str(piece);
        }
        debug_assert!(left.next().is_none() && part.matches('?').count() == params.len(), "{part}");
        self
    }

    /// The same where something is asked for, else the text as it is.
    pub(super) fn and_if(self, part: &str, asked: Option<Value>) -> Self {
        match asked {
            Some(value) => self.and(part, &[value]),
            None => self,
        }
    }

    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    pub(super) fn params(&self) -> &[Value] {
        &self.params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_as_they_come() {
        let text = Text::new("SELECT a FROM b WHERE c = ?", &[Value::Int(7)])
            .and_if(" AND d = ?", None)
            .and_if(" AND e = ?", Some(Value::Int(8)))
            .and(" AND (f, g) > (?, ?)", &[Value::Int(9), Value::Int(10)])
            .and(" ORDER BY f", &[]);
        let expected =
            ["SELECT a FROM b WHERE c = ", "1 AND e = ", "2 AND (f, g) > (", "3, ", "4) ORDER BY f"];
        assert_eq!(text.sql().split('$').collect::<Vec<_>>(), expected);
        assert_eq!(text.params(), [7, 8, 9, 10].map(Value::Int));
    }
}
