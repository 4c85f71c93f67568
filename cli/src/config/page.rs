//! What the book says of the files of settings, held against the files' own types.

use std::path::Path;

use mytunnel_coordinator::Limits as CoordinatorLimits;
use mytunnel_relay::Limits as RelayLimits;
use serde::de::DeserializeOwned;

use mytunnel_keys::usage::Prices;

use super::{
    ConfigError, LimitsFile, PersonFile, PricesFile, RelayFile, SignInFile, TunnelFile, UpFile, parse,
    unknown_field,
};

const PAGE: &str = include_str!("../../../docs/src/configuration.md");

/// Keys and defaults of the table below a heading, both without their quotes.
fn table(heading: &str) -> Vec<(String, String)> {
    let section = PAGE.split_once(&format!("\n## {heading}\n")).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned());
        (cells.next().unwrap(), cells.next().unwrap())
    })
    .collect()
}

/// Every key of a file, as its parser lists them for a key that is none.
pub(super) fn keys<T: DeserializeOwned>() -> Vec<String> {
    let error = toml::from_str::<T>("no_such_key = 1").err().unwrap();
    let (_, known) = unknown_field(error.message()).unwrap();
    known.into_iter().map(str::to_owned).collect()
}

#[track_caller]
fn is_complete<T: DeserializeOwned>(heading: &str) {
    let said: Vec<String> = table(heading).into_iter().map(|(key, _)| key).collect();
    assert_eq!(said, keys::<T>(), "{heading}: the page has each key, in the order of the file's type");
}

#[test]
fn the_book_has_every_key() {
    is_complete::<RelayFile>("`relay.toml`");
    is_complete::<LimitsFile>("`[limits]`");
    is_complete::<PricesFile>("`[prices]`");
    is_complete::<SignInFile>("`[[sign_in]]`");
    is_complete::<PersonFile>("`mytunnel.toml`");
    is_complete::<UpFile>("`mytunnel.toml` of `mytunnel up`");
    is_complete::<TunnelFile>("`[[tunnel]]`");
}

#[test]
fn the_limits_in_the_book_are_the_defaults() {
    let lines: Vec<String> =
        table("`[limits]`").into_iter().map(|(key, default)| format!("{key} = {default}\n")).collect();
    let file: Result<LimitsFile, ConfigError> = parse(Path::new("configuration.md"), &lines.concat());
    let file = file.unwrap();
    assert_eq!(format!("{:?}", file.relay()), format!("{:?}", RelayLimits::default()));
    assert_eq!(format!("{:?}", file.coordinator()), format!("{:?}", CoordinatorLimits::default()));
    assert!(!format!("{file:?}").contains("None"), "each is set: {file:?}");
}

#[test]
fn the_prices_in_the_book_are_the_defaults() {
    let lines: Vec<String> =
        table("`[prices]`").into_iter().map(|(key, default)| format!("{key} = {default}\n")).collect();
    let file: PricesFile = parse(Path::new("configuration.md"), &lines.concat()).unwrap();
    assert_eq!((file.prices(), lines.len()), (Prices::default(), 3));
}

#[test]
fn the_examples_of_the_book_are_read() {
    let example = PAGE.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    let file: RelayFile = parse(Path::new("configuration.md"), example).unwrap();
    assert_eq!(file.domain.as_deref(), Some("tunnel.example.com"));
}
