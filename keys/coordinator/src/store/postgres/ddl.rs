//! The one text of the tables, in PostgreSQL's words.

/// Translates a migration. Texts compare byte by byte on both engines, hence the collation.
pub(super) fn translated(sqlite: &str) -> String {
    let mut told = String::with_capacity(sqlite.len() * 2);
    for statement in statements(sqlite) {
        told.push_str(&trigger(&statement).unwrap_or_else(|| table(&statement)));
        told.push_str(";\n");
    }
    told
}

/// Statements without comments; a trigger's body is part of its statement.
fn statements(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for word in words(text).filter(|word| !word.starts_with("--")) {
        let current = found.last().map_or("", String::as_str);
        let whole = !current.starts_with("CREATE TRIGGER") || current.ends_with("END");
        if word == ";" && whole {
            found.push(String::new());
        } else if let Some(current) = found.last_mut()
            && !(current.is_empty() && word.trim().is_empty())
        {
            current.push_str(word);
        }
    }
    found.retain(|statement| !statement.is_empty());
    found
}

fn table(statement: &str) -> String {
    let statement = match statement.rfind(") STRICT") {
        Some(end) => &statement[..=end],
        None => statement,
    };
    words(statement)
        .map(|word| match word {
            "INTEGER" => "BIGINT",
            "BLOB" => "BYTEA",
            "TEXT" => "TEXT COLLATE \"C\"",
            word => word,
        })
        .collect()
}

/// Words and what is between them, in their order. What stands in quotes or in a comment is one piece.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let in_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let length = if first == '\'' {
            rest[1..].find('\'').map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if in_word(first) {
            rest.find(|letter| !in_word(letter)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        Some(word)
    })
}

/// `CREATE TRIGGER name BEFORE event ON table [WHEN (condition)] BEGIN SELECT RAISE(ABORT, 'words'); END`.
fn trigger(statement: &str) -> Option<String> {
    let (head, body) = statement.strip_prefix("CREATE TRIGGER ")?.split_once(" BEGIN")?;
    let (name, when) = head.split_once(' ')?;
    let words = body.split('\'').nth(1)?;
    let (event, condition) = match when.split_once(" WHEN ") {
        Some((event, condition)) => (event, format!(" WHEN ({condition})")),
        None => (when, String::new()),
    };
    // Emptying a table passes by the triggers of its rows.
    let emptied = event.strip_prefix("BEFORE DELETE ON ").map(|table| {
        format!(
            ";\nCREATE TRIGGER {name}_all BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )
    });
    let emptied = emptied.unwrap_or_default();
    Some(format!(
        "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{words}'; END $$;\n\
         CREATE TRIGGER {name} {event} FOR EACH ROW{condition} EXECUTE FUNCTION {name}(){emptied}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_shape_and_changes_its_words() {
        let told = translated(
            "-- INTEGER; in a comment\nCREATE TABLE a (\n    n INTEGER NOT NULL, -- one; or BLOB\n    t TEXT CHECK (t IN ('TEXT', 'x'))\n) STRICT, WITHOUT ROWID;\nCREATE INDEX b ON a (n);\n",
        );
        assert_eq!(
            told,
            "CREATE TABLE a (\n    n BIGINT NOT NULL, \n    t TEXT COLLATE \"C\" CHECK (t IN ('TEXT', 'x'))\n);\nCREATE INDEX b ON a (n);\n"
        );
    }

    #[test]
    fn a_trigger_becomes_a_function_and_a_trigger() {
        let told = translated(
            "CREATE TRIGGER t BEFORE DELETE ON a BEGIN\n    SELECT RAISE(ABORT, 'never');\nEND;\nDROP TABLE b;",
        );
        assert!(told.contains("RAISE EXCEPTION 'never'"), "{told}");
        assert!(told.contains(
            "CREATE TRIGGER t BEFORE DELETE ON a FOR EACH ROW EXECUTE FUNCTION t();\n\
             CREATE TRIGGER t_all BEFORE TRUNCATE ON a FOR EACH STATEMENT EXECUTE FUNCTION t();\nDROP TABLE b;"
        ));
    }
}
