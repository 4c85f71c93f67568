//! Which command a mistyped one was meant to be, and which command or flag one that another program has.

use std::{ffi::OsString, path::Path};

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};
use mytunnel_node::Target;

use crate::config;
use crate::mint::shell_quoted;

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

/// What commands are called elsewhere, and what they are here.
const GUESSED: [(&str, &str); 7] = [
    ("connect", "access NAME"),
    ("expose", "share TARGET"),
    ("funnel", "share TARGET"),
    ("mint", "eval mint"),
    ("serve", "share TARGET"),
    ("server", "relay"),
    ("tunnel", "share TARGET"),
];

/// Tells which command does here what was asked for: by another program's word, or by what is to be shared alone.
pub(crate) fn guess(error: &mut clap::Error, commands: &clap::Command, args: &[OsString]) {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return };
    // Not of a command's own, such as `mytunnel keys open`.
    let place = args.iter().skip(1).position(|arg| !arg.to_string_lossy().starts_with('-'));
    let Some(place) = place.filter(|place| args[place + 1] == word.as_str()) else { return };
    if commands.find_subcommand(word).is_some() {
        return;
    }
    let guessed = GUESSED.iter().find(|(name, _)| name == word);
    let tip = match guessed {
        Some((_, own)) => format!("what others call '{word}' is 'mytunnel {own}'"),
        None if is_target(word) => {
            // Gates and names that were typed, too, are not to be forgotten.
            let more = if args.len() > place + 2 { " ..." } else { "" };
            format!("to share it: mytunnel share {}{more}", shell_quoted(word))
        }
        None => return,
    };
    // What is nearest by its letters is meant only if it is very near: `tunnels` is by `tunnel`, `man` is not by `mint`.
    let is_near = |name: &String| strsim::osa_distance(word, name) == 1;
    let likely = error.get(ContextKind::SuggestedSubcommand);
    let near = matches!(likely, Some(ContextValue::Strings(names)) if names.iter().any(is_near));
    if guessed.is_some() && !near {
        error.remove(ContextKind::SuggestedSubcommand);
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
}

/// Whether somebody means to share this: a port, an address, or a path that is written as one. A word that happens to be a
/// folder's name, too, is rather a command that does not exist.
fn is_target(word: &str) -> bool {
    let is_odd = word.contains(|letter: char| letter.is_control() || letter.is_whitespace());
    let is_port = word.bytes().all(|byte| byte.is_ascii_digit());
    !is_odd && (is_port || word.starts_with('.') || word.contains(['/', ':'])) && Target::parse(word).is_ok()
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
        let commands = crate::args::Cli::command();
        let told = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let mut error = commands.clone().try_get_matches_from(&args).unwrap_err();
            sharpen(&mut error, &["share".to_owned()]);
            guess(&mut error, &commands, &args);
            error.render().to_string()
        };
        for (word, own) in GUESSED {
            let tip = told(&format!("mytunnel {word} 3000"));
            assert!(tip.contains(&format!("tip: what others call '{word}' is 'mytunnel {own}'\n")), "{tip}");
            let mut names = own.split(' ').filter(|name| name.chars().all(char::is_lowercase));
            assert!(
                names.try_fold(&commands, |command, name| command.find_subcommand(name)).is_some(),
                "{own}"
            );
        }
        assert!(
            told("mytunnel tunnel list").contains("'tunnels'") && !told("mytunnel mint").contains("'man'")
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        for target in ["3000", "localhost:3000", "http://localhost:3000", "unix:/run/x.sock", ".", path] {
            let tip = told(&format!("mytunnel --json {target}"));
            assert!(tip.contains(&format!("tip: to share it: mytunnel share {target}\n")), "{tip}");
        }
        let gated = told("mytunnel 3000 --basic ann");
        assert!(gated.contains("mytunnel share 3000 ...\n"), "{gated}");
        // `src` is a folder where this runs.
        for other in
            ["shrae", "keys open", "99999", "./no-such-folder", "src", "x\u{1b}:80", "x\ny:80", "pair pair"]
        {
            let tip = told(&format!("mytunnel {other}"));
            assert!(!tip.contains("to share it") && !tip.contains("what others"), "{tip}");
        }
        assert!(told("mytunnel shrae").contains("similar"));
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
