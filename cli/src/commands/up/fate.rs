//! What becomes of each tunnel when its file has changed.

use crate::config::TunnelFile;

/// A tunnel as it was begun.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) file: TunnelFile,
    /// What visitors are asked for, with secrets.
    pub(super) gates: serde_json::Value,
    pub(super) standing: Standing,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Running,
    /// Its time was over.
    Over,
    /// It was refused.
    Failed,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Stays,
    /// Visitors are asked for something else.
    Gates,
    /// It ends, and begins as it is now.
    Restarts,
    /// It begins, or is tried again.
    Starts,
}

/// Decides it for a tunnel that the newer file has.
pub(super) fn decide(old: Option<&Known>, newer: (&TunnelFile, &serde_json::Value)) -> Fate {
    let Some(old) = old else { return Fate::Starts };
    let (file, gates) = newer;
    let is_same = old.file == *file && old.gates == *gates;
    match old.standing {
        Standing::Failed => Fate::Starts,
        Standing::Over if is_same => Fate::Stays,
        Standing::Over => Fate::Starts,
        Standing::Running if is_same => Fate::Stays,
        // Where TLS ends in this process, what visitors are asked for was built in.
        Standing::Running if !file.e2e && old.file.without_gates() == file.without_gates() => Fate::Gates,
        Standing::Running => Fate::Restarts,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::UpFile;

    fn file(text: &str) -> TunnelFile {
        let mut file: UpFile = toml::from_str(&format!("[[tunnel]]\n{text}")).unwrap();
        file.tunnel.remove(0)
    }

    #[track_caller]
    fn becomes(standing: Standing, old: (&str, Value), newer: (&str, Value)) -> Fate {
        let known = Known { file: file(old.0), gates: old.1, standing };
        decide(Some(&known), (&file(newer.0), &newer.1))
    }

    #[test]
    fn what_was_not_touched_stays_and_what_is_new_starts() {
        let open = ("target = 1", json!([]));
        assert_eq!(decide(None, (&file(open.0), &open.1)), Fate::Starts);
        assert_eq!(becomes(Standing::Running, open.clone(), open.clone()), Fate::Stays);
        assert_eq!(becomes(Standing::Over, open.clone(), open.clone()), Fate::Stays);
        assert_eq!(becomes(Standing::Failed, open.clone(), open), Fate::Starts, "it is tried again");
    }

    #[test]
    fn gates_change_without_an_end_and_everything_else_with_one() {
        let running = |old, newer| becomes(Standing::Running, old, newer);
        let (open, pin) = (("target = 1", json!([])), ("target = 1\npin = true", json!(["pin"])));
        assert_eq!(running(open.clone(), pin.clone()), Fate::Gates);
        let file = "target = 1\npin = { file = 'p' }";
        assert_eq!(running((file, json!(["1"])), (file, json!(["2"]))), Fate::Gates, "the secret is another");
        assert_eq!(running(open.clone(), ("target = 2", json!([]))), Fate::Restarts);
        assert_eq!(running(open.clone(), ("target = 1\nexpires = '1h'", json!([]))), Fate::Restarts);
        let (closed, own) =
            (("target = 1\ne2e = true", json!([])), ("target = 1\ne2e = true\npin = true", json!(["pin"])));
        assert_eq!(running(closed, own), Fate::Restarts);
        assert_eq!(becomes(Standing::Over, open, pin), Fate::Starts);
    }
}
