//! The same work through several programs in turn, measured in one run: only ratios count, and a noisy machine disturbs all
//! alike.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::load::{self, Outcome, Work};
use crate::usage;

/// One program under load: where visitors knock, as whom, and whose CPU and memory it costs.
#[derive(Debug)]
pub struct Subject {
    /// As the table names it.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// The `Host` that it is asked for.
    pub host: String,
    /// The processes that it consists of.
    pub processes: Vec<u32>,
}

struct Measured {
    rate: f64,
    gigabytes: f64,
    cpu_per_10k: f64,
    cpu_per_gigabyte: f64,
    resident: f64,
    p99: u32,
}

/// Prints a table of each of `measures` (its name, the work, and how many do it at once) for each subject: the median of
/// `rounds`, and the median of the ratios to the subject `base` in the same round.
pub async fn print(
    measures: impl Iterator<Item = &(&'static str, Work, usize)>,
    subjects: &[Subject],
    base: &str,
    rounds: usize,
    each: Duration,
) -> Result<()> {
    println!(
        "| measure | subject | per second | GB/s | ratio to {base} | p99 µs | CPU s per 10,000 | CPU s per GB | RSS MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, work, connections) in measures {
        let mut results: Vec<Vec<Measured>> = subjects.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (subject, results) in subjects.iter().zip(&mut results) {
                results.push(measure(subject, *work, *connections, each).await?);
            }
        }
        report(name, *work, (subjects, base), &mut results);
    }
    Ok(())
}

async fn measure(subject: &Subject, work: Work, connections: usize, duration: Duration) -> Result<Measured> {
    let warm = duration.min(Duration::from_millis(500));
    load::run(work, subject.address, &subject.host, connections, warm).await;
    for process in &subject.processes {
        // Not permitted in some containers; the peak then is the highest so far.
        let _ = usage::forget_peak(*process);
    }
    let before = cpu(subject)?;
    let outcome: Outcome = load::run(work, subject.address, &subject.host, connections, duration).await;
    let spent = (cpu(subject)? - before).as_secs_f64();
    if outcome.failed > 0 {
        println!(
            "{}: {} failed: {}",
            subject.name,
            outcome.failed,
            outcome.first_failure.as_deref().unwrap_or("")
        );
    }
    let peaks = subject.processes.iter().filter_map(|process| usage::resident_peak(*process).ok());
    Ok(Measured {
        rate: outcome.rate(),
        gigabytes: outcome.gigabytes(),
        cpu_per_10k: spent / outcome.count.max(1) as f64 * 1e4,
        cpu_per_gigabyte: spent / (outcome.bytes.max(1) as f64 / 1e9),
        resident: peaks.sum::<u64>() as f64 / (1 << 20) as f64,
        p99: outcome.latency(0.99),
    })
}

fn cpu(subject: &Subject) -> Result<Duration> {
    subject.processes.iter().map(|process| usage::cpu(*process)).sum()
}

fn report(name: &str, work: Work, (subjects, base): (&[Subject], &str), results: &mut [Vec<Measured>]) {
    let bulk = matches!(work, Work::Download | Work::Upload);
    let figure = |measured: &Measured| if bulk { measured.gigabytes } else { measured.rate };
    let base = subjects.iter().position(|subject| subject.name == base);
    let base: Option<Vec<f64>> = base.map(|index| results[index].iter().map(figure).collect());
    for (subject, results) in subjects.iter().zip(results) {
        let column = |of: &dyn Fn(&Measured) -> f64| median(results.iter().map(of).collect());
        let ratio =
            base.as_ref().map(|base| median(results.iter().zip(base).map(|(m, b)| figure(m) / b).collect()));
        println!(
            "| {name} | {} | {:.0} | {:.2} | {} | {:.0} | {:.3} | {:.2} | {:.1} |",
            subject.name,
            column(&|m| m.rate),
            column(&|m| m.gigabytes),
            ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
            column(&|m| f64::from(m.p99)),
            column(&|m| m.cpu_per_10k),
            column(&|m| m.cpu_per_gigabyte),
            column(&|m| m.resident),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
