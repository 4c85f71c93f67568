//! Which command a mistyped one was meant to be.

use clap::error::{ContextKind, ContextValue};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
