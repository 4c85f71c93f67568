//! A recorded request as a command for a shell.

use std::fmt::Write as _;

use data_encoding::BASE64;
use mytunnel_node::Target;
use mytunnel_node::inspect::{Exchange, Header};

use super::shown::text;
use super::told::{is_harmless, printable};

/// A longer body does not fit an argument of a command.
const MAX_ARGUMENT: usize = 64 * 1024;
/// What curl says by itself, or what is of one connection.
const LEFT_OUT: [&str; 8] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The command that sends the request of `exchange` to `target` again, with the secrets that it had. `None` for what is
/// no request, or was not kept whole.
pub(crate) fn command(exchange: &Exchange, target: &Target) -> Option<String> {
    let head = exchange.request.as_ref().filter(|_| exchange.request_body.is_whole())?;
    let body = &exchange.request_body.kept;
    let mut command = String::from("curl");
    if let Target::Unix(path) = target {
        write!(command, " --unix-socket {}", quoted(&path.display().to_string())).ok()?;
    }
    match head.method.as_str() {
        "GET" if body.is_empty() => {}
        "HEAD" => command.push_str(" --head"),
        method => write!(command, " -X {}", quoted(method)).ok()?,
    }
    if head.target.contains("/.") {
        command.push_str(" --path-as-is");
    }
    if head.target.contains(['[', ']', '{', '}']) {
        command.push_str(" --globoff");
    }
    write!(command, " {}", quoted(&format!("{}{}", base(target, &head.headers), escaped(&head.target))))
        .ok()?;
    for header in &head.headers {
        if LEFT_OUT.contains(&&*header.name.to_ascii_lowercase()) {
            continue;
        }
        // No client sends these, and in a terminal they are commands.
        let value = printable(&String::from_utf8_lossy(&header.value));
        // An empty header is written with a semicolon.
        let line =
            if value.is_empty() { format!("{};", header.name) } else { format!("{}: {value}", header.name) };
        write!(command, " \\\n  -H {}", quoted(&line)).ok()?;
    }
    if !body.is_empty() && !head.headers.iter().any(|header| header.name.eq_ignore_ascii_case("content-type"))
    {
        // Otherwise curl calls it a form.
        command.push_str(" \\\n  -H 'Content-Type:'");
    }
    match text(body) {
        _ if body.is_empty() => {}
        Some(text) if text.len() == body.len() && body.len() <= MAX_ARGUMENT && is_plain(text) => {
            write!(command, " \\\n  --data-raw {}", quoted(text)).ok()?;
        }
        Some(_) | None => {
            command.push_str(" \\\n  --data-binary @-");
            command = format!("printf %s {} | base64 -d | {command}", BASE64.encode(body));
        }
    }
    Some(command)
}

/// A target with what would be a command to a terminal in the form that servers read the same.
fn escaped(target: &str) -> String {
    let mut escaped = String::with_capacity(target.len());
    for letter in target.chars() {
        if is_harmless(letter) {
            escaped.push(letter);
            continue;
        }
        for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
            // A string takes all that is written to it.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Whether a text can stand in a terminal as it is.
fn is_plain(text: &str) -> bool {
    text.chars().all(|letter| is_harmless(letter) || matches!(letter, '\n' | '\t'))
}

/// Where the target is; files are reached as their visitor reached them.
fn base(target: &Target, headers: &[Header]) -> String {
    let sent = |name: &str| {
        headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| String::from_utf8_lossy(&header.value).into_owned())
    };
    if matches!(target, Target::Unix(_)) {
        return "http://localhost".to_owned();
    }
    if matches!(target, Target::Folder(_) | Target::File(_)) {
        let scheme = sent("x-forwarded-proto").filter(|scheme| scheme == "https");
        return format!("{}://{}", scheme.as_deref().unwrap_or("http"), sent("host").unwrap_or_default());
    }
    target.to_string()
}

/// One word of a POSIX shell, and of fish, where a backslash means something also between quotes.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut word = String::from("'");
    for letter in text.chars() {
        match letter {
            // Outside of the quotes, with a backslash of its own.
            '\'' => word.push_str(r"'\''"),
            '\\' => word.push_str(r"'\\'"),
            letter => word.push(letter),
        }
    }
    word.push('\'');
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::told::tests::exchange;

    fn to(target: &str) -> Target {
        Target::parse(target).unwrap()
    }

    #[test]
    fn a_command_has_all_of_the_request_and_nothing_that_a_shell_would_read() {
        let headers = [("Host", "a.test"), ("Content-Length", "3"), ("X-It", "it's"), ("X-Empty", "")];
        let post = exchange("POST", "/a?b=$(id)&c", &headers, b"@'x");
        let expected = "curl -X POST 'http://localhost:3000/a?b=$(id)&c' \\\n  -H 'Host: a.test' \\\n  \
                        -H 'X-It: it'\\''s' \\\n  -H 'X-Empty;' \\\n  -H 'Content-Type:' \\\n  --data-raw '@'\\''x'";
        assert_eq!(command(&post, &to("3000")).unwrap(), expected);
        let get = exchange("GET", "/", &[("Host", "a.test"), ("X-Forwarded-Proto", "https")], b"");
        assert!(
            command(&get, &to("unix:/run/x"))
                .unwrap()
                .starts_with("curl --unix-socket /run/x http://localhost/")
        );
        assert!(command(&get, &to(".")).unwrap().starts_with("curl https://a.test/ "));
    }

    /// What a shell makes of the words of a command in place of curl.
    fn read_by(shell: &str, command: &str) -> Option<Vec<u8>> {
        let command = command.strip_prefix("curl")?;
        let output =
            std::process::Command::new(shell).args(["-c", &format!("printf '<%s>'{command}")]).output();
        output.ok().map(|output| output.stdout)
    }

    #[test]
    fn no_word_of_a_visitor_is_one_of_the_shell() {
        let marker = tempfile::tempdir().unwrap().path().join("made");
        let trap = format!(r"\'; touch {}; #", marker.display());
        let headers = [("Host", "a.test"), ("X-F", trap.as_str()), ("X-G", r"a\"), ("X-H", r"'\''")];
        let post = exchange("POST", r"/\'$(id)`id`!!", &headers, trap.as_bytes());
        let written = command(&post, &to("3000")).unwrap();
        let expected = format!(
            r"<-X><POST><http://localhost:3000/\'$(id)`id`!!><-H><Host: a.test><-H><X-F: {trap}><-H><X-G: a\><-H><X-H: '\''><-H><Content-Type:><--data-raw><{trap}>"
        );
        assert_eq!(read_by("sh", &written).unwrap(), expected.as_bytes());
        // Where they are installed: they read quotes in their own ways.
        for shell in ["bash", "zsh", "fish"] {
            if let Some(read) = read_by(shell, &written) {
                assert_eq!(String::from_utf8_lossy(&read), expected, "{shell}");
            }
        }
        assert!(!marker.exists());
    }

    #[test]
    fn nothing_in_it_is_a_command_to_the_terminal() {
        let post = exchange("POST", "/\u{9b}31m", &[("X-F", "a\u{9b}2J\u{202e}b")], "\u{1b}[2J".as_bytes());
        let command = command(&post, &to("3000")).unwrap();
        assert!(command.chars().all(|letter| is_harmless(letter) || letter == '\n'), "{command:?}");
        assert!(command.contains("/%C2%9B31m") && command.contains("base64 -d"), "{command}");
    }

    #[test]
    fn bytes_that_no_argument_can_hold_come_through_a_pipe() {
        let post = exchange("PUT", "/", &[("Content-Type", "image/png")], b"\0\x01");
        let command = command(&post, &to("3000")).unwrap();
        assert!(command.starts_with("printf %s AAE= | base64 -d | curl -X PUT"), "{command}");
        assert!(command.ends_with("--data-binary @-"), "{command}");
    }
}
