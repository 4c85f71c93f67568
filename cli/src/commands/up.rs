//! `mytunnel up`: several tunnels from a file, which is followed.

mod fate;
mod load;
mod run;
mod table;
mod watch;

use std::path::{Path, PathBuf};

use self::load::Loaded;
use self::watch::Stamp;
use crate::commands::share::{Access, Spot};
use crate::context::Context;
use crate::failure::{Failure, io_help};
use crate::runtime::block_on;

/// Share several things, as a file says, and follow the file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel up                        what mytunnel.toml of this folder says
  mytunnel up -f /srv/tunnels.toml   another file; what it names is looked for beside it
  mytunnel up --check                says what it comes to, and starts nothing

A file:
  [[tunnel]]
  name = \"web\"
  target = 3000
  basic = { user = \"ann\", password = { file = \"web.password\" } }

  [[tunnel]]
  name = \"db\"
  kind = \"tcp\"
  target = 5432

Each flag of `mytunnel share` has its key. A change of the file holds at once: what is new starts, what is gone ends, what
was not touched goes on.")]
pub(crate) struct Args {
    /// The file
    #[arg(short, long, value_name = "FILE", default_value = "mytunnel.toml")]
    file: PathBuf,

    /// Say what the file comes to and what is wrong with it, and start nothing
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    access: Access,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut access = args.access.clone();
    access.token_file = access.token_file.map(|path| absolute(&path)).transpose()?;
    let path = go_beside(&args.file)?;
    if args.check {
        return table::check(&path, context);
    }
    // Looked at before it is read: what is written in between is a change.
    let stamp = Stamp::of(&path);
    let loaded = Loaded::read(&path, context)?;
    loaded.file.complete(&mut access, context);
    let spot = Spot::find(&access, loaded.needs(), context)?;
    loaded.check_place(spot.most, spot.is_here())?;
    block_on(run::run(loaded, (path, stamp), spot, context))
}

/// What a file names is looked for beside it.
fn go_beside(file: &Path) -> Result<PathBuf, Failure> {
    let path = absolute(file)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::env::set_current_dir(folder).map_err(|error| {
        Failure::usage(format!("cannot go to {}: {error}", folder.display()), io_help(&error))
    })?;
    Ok(path)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if path == Path::new("-") {
        return Ok(path.to_owned());
    }
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "Write another path."))
}
