//! `pair say`: something for the others.

use std::io::{self, Read};

use mytunnel_keys::error::Code;
use mytunnel_pairing::{Said, api::Request};
use serde_json::{Map, Value};

use super::{SessionArgs, client};
use crate::context::Context;
use crate::failure::Failure;

/// One more than a text may have, so that a longer one is refused and not cut.
const LONGEST: u64 = mytunnel_pairing::limits::TEXT as u64 + 1;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Kinds and what --data holds for them:
  chat, question, answer   nothing
  code                     {\"lang\":\"rust\",\"path\":\"src/lib.rs\"}
  plan                     {\"steps\":[{\"text\":\"…\",\"state\":\"working\"}]}
  proposal                 {\"action\":\"…\",\"risk\":\"…\",\"files\":[\"…\"]}
  task                     {\"state\":\"completed\"}")]
pub(crate) struct Args {
    /// What to say; `-` or nothing reads standard input
    text: Option<String>,

    /// What kind of thing it is
    #[arg(long, default_value = "chat")]
    kind: String,

    /// The other fields of that kind
    #[arg(long, value_name = "JSON")]
    data: Option<String>,

    /// Number of what it replies to
    #[arg(long, value_name = "SEQ")]
    reply_to: Option<u64>,

    /// For these members only, and the host; may be given several times
    #[arg(long, value_name = "NAME")]
    to: Vec<String>,

    #[command(flatten)]
    session: SessionArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let text = match args.text.as_deref() {
        Some("-") | None => from_stdin()?,
        Some(text) => text.to_owned(),
    };
    if text.len() as u64 >= LONGEST {
        return Err(Failure::new(Code::PairTooLarge, "a text has 64 KiB at most"));
    }
    let said = said(&args.kind, text, args.data.as_deref())?;
    let session = args.session.session.clone();
    let request = Request::Say { session, said, reply_to: args.reply_to, to: args.to.clone() };
    let answer = client::ask(&request, context)?;
    context.report.object(&answer);
    let queued: Vec<&str> =
        answer["queued"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !queued.is_empty() {
        context.report.note(format_args!("Not there, and gets it when back: {}", queued.join(", ")));
    }
    Ok(())
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().lock().take(LONGEST).read_to_string(&mut text).map_err(|error| {
        Failure::usage(format!("cannot read standard input: {error}"), "Give UTF-8 text.")
    })?;
    Ok(text)
}

/// The kind, the text and the other fields as one thing to say.
fn said(kind: &str, text: String, data: Option<&str>) -> Result<Said, Failure> {
    let mut fields: Map<String, Value> = match data {
        Some(data) => serde_json::from_str(data).map_err(|error| {
            Failure::usage(format!("--data is no JSON object: {error}"), "See `mytunnel pair say --help`.")
        })?,
        None => Map::new(),
    };
    fields.insert("kind".to_owned(), kind.into());
    fields.insert("text".to_owned(), text.into());
    if kind == "decision" {
        // A person's is `pair approve` or `deny`, at a terminal.
        fields.insert("by".to_owned(), "agent".into());
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| {
        Failure::usage(format!("that is no {kind}: {error}"), "See `mytunnel pair say --help` for the kinds.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_fields_and_no_others() {
        assert!(matches!(said("chat", "x".to_owned(), None), Ok(Said::Chat { text }) if text == "x"));
        assert!(said("code", "x".to_owned(), Some(r#"{"lang":"rust"}"#)).is_ok());
        let decision = r#"{"proposal":1,"verdict":"approved","by":"human"}"#;
        let decision = said("decision", String::new(), Some(decision)).unwrap();
        assert!(matches!(decision, Said::Decision { by: mytunnel_pairing::By::Agent, .. }));
        for (kind, data) in [
            ("code", None),
            ("chat", Some(r#"{"lang":"rust"}"#)),
            ("chat", Some("[]")),
            ("system", None),
            ("task", Some(r#"{"state":"sleeping"}"#)),
        ] {
            assert_eq!(said(kind, "x".to_owned(), data).unwrap_err().exit_code(), 2, "{kind} {data:?}");
        }
    }
}
