//! Which command a mistyped one was meant to be, and which command or flag one that another program has.

use std::{ffi::OsString, path::Path};

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};
use mytunnel_node::Target;

use crate::config;

/// Entries of a folder that are looked at.
const ENTRIES: usize = 1000;

/// Leaves of what the parser suggests the nearest: it counts letters that two words share, in any place, so that `usage` comes before
/// `share` for `shrae`. `common` are commands in the order of their use, for those that are as near as others.
pub(crate) fn sharpen(error: &mut clap::Error, common: &[String]) {
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let Some(ContextValue::Strings(likely)) = error.get(ContextKind::SuggestedSubcommand) else { return };
    let nearest = nearest(wrong, likely, common);
    error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(nearest));
}

/// Those that are as near as the nearest, by the letters that have to be changed, added, left away or exchanged.
fn nearest(wrong: &str, likely: &[String], common: &[String]) -> Vec<String> {
    let far = |word: &str| strsim::osa_distance(wrong, word);
    let Some(least) = likely.iter().map(|word| far(word)).min() else { return Vec::new() };
    let mut near: Vec<String> = likely.iter().filter(|word| far(word) == least).cloned().collect();
    near.sort_by_key(|word| common.iter().position(|command| command == word).unwrap_or(usize::MAX));
    near
}

/// What commands are called elsewhere, or would be guessed, that are ours by another name.
const GUESSED: [(&str, &str); 12] = [
    ("authtoken", "login"),
    ("connect", "access"),
    ("expose", "share"),
    ("forward", "access"),
    ("funnel", "share"),
    ("join", "pair join"),
    ("mint", "eval mint"),
    ("open", "share"),
    ("serve", "share"),
    ("server", "relay"),
    ("token", "eval mint"),
    ("tunnel", "share"),
];

/// Tells what does here what was asked for: by another program's word, or by what is to be shared alone.
pub(crate) fn guess(error: &mut clap::Error, args: &[OsString]) {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return };
    // Not a command's own, such as `mytunnel keys open`.
    let first = args.iter().skip(1).find(|arg| !arg.to_string_lossy().starts_with('-'));
    if first.is_none_or(|first| first != word.as_str()) {
        return;
    }
    let guessed = GUESSED.iter().find(|(name, _)| name == word).map(|(_, own)| *own);
    let own = match guessed {
        Some(own) => own.to_owned(),
        None if Target::parse(word).is_ok() => format!("share {word}"),
        None => return,
    };
    // What is nearest by its letters is meant only if it is very near: `tunnels` is by `tunnel`, `man` is not by `mint`.
    let is_near = |name: &String| strsim::osa_distance(word, name) == 1;
    let likely = error.get(ContextKind::SuggestedSubcommand);
    let near = matches!(likely, Some(ContextValue::Strings(names)) if names.iter().any(is_near));
    if !near {
        error.remove(ContextKind::SuggestedSubcommand);
    }
    let tip = vec![StyledStr::from(format!("you may mean 'mytunnel {own}'"))];
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tip));
}

/// What flags are called elsewhere that are ours by another name.
const ELSEWHERE: [(&str, &str); 9] = [
    ("--relay", "server"),
    ("--hostname", "name"),
    ("--domain", "name"),
    ("--authtoken", "token"),
    ("--basic-auth", "basic"),
    ("--oauth", "oidc"),
    ("--cidr-allow", "allow-ip"),
    ("--cidr-deny", "deny-ip"),
    ("--proxy-proto", "proxy-protocol"),
];

/// Suggests the flag that is meant by one of another program's, where the command that was typed has it.
pub(crate) fn translate(error: &mut clap::Error, commands: &clap::Command, args: &[OsString]) {
    let Some(ContextValue::String(foreign)) = error.get(ContextKind::InvalidArg) else { return };
    let Some((_, own)) = ELSEWHERE.iter().find(|(name, _)| name == foreign) else { return };
    let mut command = commands;
    for arg in args.iter().skip(1) {
        match command.find_subcommand(arg) {
            Some(inner) => command = inner,
            None if arg.to_string_lossy().starts_with('-') => {}
            None => break,
        }
    }
    if command.get_arguments().any(|arg| arg.get_long() == Some(own)) {
        error.insert(ContextKind::SuggestedArg, ContextValue::String(format!("--{own}")));
        // That it could be a value, which nobody means.
        error.remove(ContextKind::Suggested);
    }
}

/// What lies beside a path that leads to nothing, and has nearly its name.
pub(crate) fn neighbour(missing: &Path) -> Option<String> {
    let wrong = missing.file_name()?.to_str()?;
    let folder = missing.parent()?;
    let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = shown.read_dir().ok()?.take(ENTRIES).flatten();
    let names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let name = config::nearest(wrong, names.iter().map(String::as_str))?;
    Some(folder.join(name).display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_nearly_the_name_is_found_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["docs", "dist", "a"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let neighbour = |name: &str| neighbour(&folder.path().join(name));
        assert_eq!(neighbour("dosc"), Some(folder.path().join("docs").display().to_string()));
        assert_eq!((neighbour("photos"), neighbour("b"), neighbour("no/docs")), (None, None, None));
    }

    #[test]
    fn the_nearest_is_suggested_and_of_several_the_common_first() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let common = words("share http status usage tenant");
        assert_eq!(nearest("shrae", &words("usage share"), &common), ["share"]);
        assert_eq!(nearest("stats", &words("tenant status"), &common), ["status"]);
        assert_eq!(
            nearest("xx", &words("tenant status"), &common),
            ["status", "tenant"],
            "as far as each other"
        );
        assert!(nearest("x", &[], &common).is_empty());
    }

    #[test]
    fn a_command_of_another_program_or_a_target_alone_leads_to_ours() {
        use clap::CommandFactory as _;
        let told = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let mut error = crate::args::Cli::command().try_get_matches_from(&args).unwrap_err();
            guess(&mut error, &args);
            error.render().to_string()
        };
        let commands = crate::args::Cli::command();
        for (word, own) in GUESSED {
            let tip = told(&format!("mytunnel {word} 3000"));
            assert!(tip.contains(&format!("tip: you may mean 'mytunnel {own}'\n")), "{tip}");
            let last = own.split(' ').try_fold(&commands, |command, name| command.find_subcommand(name));
            assert!(last.is_some(), "{own} is a command");
        }
        for target in ["3000", "localhost:3000", "http://localhost:3000", "unix:/run/x.sock", "/"] {
            let tip = told(&format!("mytunnel {target}"));
            assert!(tip.contains(&format!("'mytunnel share {target}'")), "{tip}");
        }
        assert!(told("mytunnel shrae").contains("similar"));
        assert!(
            told("mytunnel tunnel list").contains("'tunnels'") && !told("mytunnel mint").contains("'man'")
        );
        assert!(!told("mytunnel keys open").contains("share"));
    }

    #[test]
    fn a_flag_of_another_program_is_ours_where_the_command_has_it() {
        use clap::CommandFactory as _;
        let told = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let commands = crate::args::Cli::command();
            let mut error = commands.clone().try_get_matches_from(&args).unwrap_err();
            translate(&mut error, &commands, &args);
            error.render().to_string()
        };
        let relay = told("mytunnel share 3000 --relay https://t.example");
        assert!(
            relay.contains("a similar argument exists: '--server'") && !relay.contains("-- --relay"),
            "{relay}"
        );
        assert!(told("mytunnel --json http 3000 --basic-auth a:b").contains("'--basic'"));
        assert!(told("mytunnel tcp 22 --proxy-proto 2").contains("'--proxy-protocol'"));
        let other = told("mytunnel status --relay x");
        assert!(!other.contains("--server"), "{other}");
    }
}
