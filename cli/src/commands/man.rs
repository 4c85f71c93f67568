//! `mytunnel man [DIR]`.

use std::path::PathBuf;

use clap::CommandFactory;
use serde_json::json;

use crate::args::Cli;
use crate::context::Context;
use crate::failure::{Failure, io_help};

/// Print the manual page, or write one for each command into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel man | man -l -
  sudo mytunnel man /usr/local/share/man/man1")]
pub(crate) struct Args {
    /// Directory for mytunnel.1, mytunnel-share.1 and the others
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let report = context.report;
    let Some(directory) = &args.directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(|error| unmade(&error))?;
        report.object(&json!({"page": String::from_utf8_lossy(&page)}));
        report.text(&page);
        return Ok(());
    };
    let unwritten = |error: std::io::Error| {
        let help = match io_help(&error) {
            "" => "Choose another directory.",
            help => help,
        };
        Failure::local(format!("cannot write to {}: {error}", directory.display()), help)
    };
    std::fs::create_dir_all(directory).map_err(unwritten)?;
    let pages = pages(&command).map_err(|error| unmade(&error))?;
    for (name, page) in &pages {
        std::fs::write(directory.join(name), page).map_err(unwritten)?;
    }
    let names: Vec<_> = pages.iter().map(|(name, _)| name).collect();
    report.object(&json!({"directory": directory, "pages": names}));
    report.line(format!("{} pages are in {}.", names.len(), directory.display()));
    Ok(())
}

fn unmade(error: &std::io::Error) -> Failure {
    Failure::local(format!("a page cannot be made: {error}"), "Report this.")
}

/// A page for each command that is to be seen, by the name of its file.
fn pages(command: &clap::Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    let mut all = vec![(format!("{name}.1"), page)];
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        all.extend(pages(inner)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let mut command = Cli::command();
        command.build();
        let pages = pages(&command).unwrap();
        let text = |name: &str| {
            let page = pages.iter().find(|(file, _)| file == name);
            String::from_utf8_lossy(&page.unwrap_or_else(|| panic!("no {name}")).1).into_owned()
        };
        assert!(text("mytunnel.1").contains("mytunnel"));
        assert!(text("mytunnel-share.1").contains("basic"));
        assert!(text("mytunnel-keys-revoke.1").contains("cascade"));
        let mut names: Vec<_> = pages.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), pages.len(), "no page overwrites another");
    }
}
