//! The book's sources stand beside this file. What it says of the code is checked here against the code.

#[cfg(test)]
mod tests {
    use mytunnel_keys::error::Code;

    const ERRORS: &str = include_str!("errors.md");

    #[test]
    fn every_code_has_its_section_with_status_and_remedy() {
        for code in Code::ALL {
            let title = format!("\n## {}\n", code.name());
            let section = ERRORS.split_once(&title).unwrap_or_else(|| panic!("{code} has no section")).1;
            let section = section.split("\n## ").next().unwrap_or_default();
            let status =
                format!("Exit status {}, HTTP {}. {}", code.exit_code(), code.http_status(), code.help());
            assert!(section.contains(&status), "{code} should say: {status}");
        }
    }

    #[test]
    fn every_page_is_in_the_summary() {
        let summary = include_str!("SUMMARY.md");
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") && name != "SUMMARY.md" {
                assert!(summary.contains(&format!("]({name})")), "{name}");
            }
        }
    }
}
