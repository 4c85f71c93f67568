//! `mytunnel usage`: what was used over time, by which keys, and what that costs.

use clap::ValueEnum;
use mytunnel_keys::api::{UsageAnswer, UsageKey, UsagePoint};
use mytunnel_keys::id::ProjectId;
use mytunnel_keys::usage::Usage;

use crate::commands::keys;
use crate::commands::projects::ServerArgs;
use crate::context::{Context, now};
use crate::failure::Failure;
use crate::money;
use crate::report::columns;
use crate::session::Session;
use crate::span;

/// Width of the longest bar.
const BAR: usize = 30;

/// Show what tunnels have used, and what that costs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this project, by its id
    #[arg(long, value_name = "PROJECT")]
    project: Option<ProjectId>,

    /// Only this key and the keys it made, by id or serial
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// How far back [default: since the month began]
    #[arg(long, value_name = "TIME", value_parser = span::parse_some)]
    since: Option<u64>,

    /// What one line of the picture stands for; hours are kept for 35 days
    #[arg(long, value_enum, default_value = "day")]
    by: By,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Hour,
    Day,
    Month,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let session = Session::person_or_master(context, args.server.server.as_deref())?;
    let answer: UsageAnswer = session.get(&path(args, now())?)?;
    context.report.object(&answer);
    for line in page(&answer, args.by) {
        context.report.line(line);
    }
    Ok(())
}

fn path(args: &Args, now: u64) -> Result<String, Failure> {
    let by = match args.by {
        By::Hour => "hour",
        By::Day => "day",
        By::Month => "month",
    };
    let mut path = format!("/usage?by={by}");
    if let Some(project) = &args.project {
        path += &format!("&project={project}");
    }
    if let Some(key) = &args.key {
        path += &format!("&key={}", keys::nonce(key)?);
    }
    if let Some(since) = args.since {
        path += &format!("&from={}", now.saturating_sub(since));
    }
    Ok(path)
}

fn page(answer: &UsageAnswer, by: By) -> Vec<String> {
    if answer.points.is_empty() {
        return vec!["Nothing was used.".to_owned()];
    }
    let mut lines = picture(&answer.points, by);
    lines.push(String::new());
    lines.extend(table(&answer.keys));
    lines.push(String::new());
    lines.push(format!("Total {}", money::exact(answer.total_cents)));
    lines
}

/// A bar for each point, as long as what went through.
fn picture(points: &[UsagePoint], by: By) -> Vec<String> {
    let most = points.iter().map(|point| bytes(&point.usage)).max().unwrap_or(0).max(1);
    let row = |point: &UsagePoint| {
        let at = span::utc(point.at);
        let at = match by {
            By::Hour => at.get(..16),
            By::Day => at.get(..10),
            By::Month => at.get(..7),
        };
        let through = bytes(&point.usage);
        let length = usize::try_from(u128::from(through) * BAR as u128 / u128::from(most)).unwrap_or(BAR);
        // What is there is seen, however little.
        let length = if through > 0 { length.max(1) } else { 0 };
        let mut row = vec![at.unwrap_or_default().to_owned(), format!("{:<BAR$}", "█".repeat(length))];
        row.extend(amounts(&point.usage, point.cents));
        row
    };
    columns(&points.iter().map(row).collect::<Vec<_>>())
}

fn table(keys: &[UsageKey]) -> Vec<String> {
    let heading = ["KEY", "NAME", "THROUGH", "REQUESTS", "UP", "COST", "OF"].map(str::to_owned).to_vec();
    let row = |key: &UsageKey| {
        let name = if key.name.is_empty() { "-" } else { &key.name };
        let mut row = vec![key.nonce.clone(), name.to_owned()];
        row.extend(amounts(&key.usage, key.cents));
        row.push(key.budget_cents.map_or_else(|| "-".to_owned(), money::dollars));
        row
    };
    columns(&std::iter::once(heading).chain(keys.iter().map(row)).collect::<Vec<_>>())
}

fn amounts(usage: &Usage, cents: f64) -> [String; 4] {
    [size(bytes(usage)), usage.requests.to_string(), span::human(usage.tunnel_seconds), money::exact(cents)]
}

const fn bytes(usage: &Usage) -> u64 {
    usage.bytes_in.saturating_add(usage.bytes_out)
}

/// Bytes in the largest unit of which there is one.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn size(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: u64, bytes_out: u64) -> UsagePoint {
        let usage = Usage { bytes_out, requests: 3, tunnel_seconds: 60, ..Usage::default() };
        UsagePoint { at, usage, cents: 2.5 }
    }

    #[test]
    fn bars_are_as_long_as_what_went_through() {
        let lines =
            picture(&[point(0, 0), point(86_400, 1), point(172_800, 500), point(259_200, 1000)], By::Day);
        let bars: Vec<_> = lines.iter().map(|line| line.matches('█').count()).collect();
        assert_eq!(bars, [0, 1, 15, 30]);
        assert!(lines[3].starts_with("1970-01-04"), "{lines:?}");
        assert!(picture(&[point(0, 1)], By::Hour)[0].starts_with("1970-01-01"));
    }

    #[test]
    fn sizes_have_their_units() {
        assert_eq!(
            [0, 1023, 1024, 1 << 31, 3 << 40].map(size),
            ["0 B", "1023 B", "1.0 KiB", "2.0 GiB", "3.0 TiB"]
        );
    }

    #[test]
    fn a_page_has_the_picture_the_keys_and_the_total() {
        let key = UsageKey {
            nonce: "aa".to_owned(),
            name: String::new(),
            parent: None,
            project: None,
            usage: point(0, 5).usage,
            cents: 2.5,
            budget_cents: Some(500),
            shared_cents: None,
        };
        let answer = UsageAnswer {
            currency: "USD".to_owned(),
            month: "2026-11".parse().unwrap(),
            total_cents: 2.5,
            points: vec![point(0, 5)],
            keys: vec![key],
        };
        let lines = page(&answer, By::Day);
        assert!(lines[3].contains("$5.00") && lines.last().unwrap() == "Total $0.03", "{lines:?}");
        assert_eq!(page(&UsageAnswer { points: vec![], ..answer }, By::Day), ["Nothing was used."]);
    }
}
