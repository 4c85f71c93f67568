//! `pair install-skill`: what it writes where, and what it leaves as it is.

use std::fs;

use serde_json::json;

use crate::program::User;

#[test]
fn a_skill_is_written_where_its_agent_reads_it_once_and_what_was_changed_there_stays() {
    let user = User::new();
    let install = |more: &[&str]| user.run(&[&["pair", "install-skill"], more].concat());
    let path = user.path(".claude/skills/mytunnel-pair/SKILL.md");
    let shown = path.to_str().unwrap();
    let text = install(&["--print"]).succeeded().stdout;
    assert!(!path.exists(), "it only prints");

    let said = install(&[]).succeeded().stdout;
    assert!(said.contains(&format!("{shown} is written")), "{said}");
    let written = fs::read_to_string(&path).unwrap();
    assert!(written.starts_with("---\nname: mytunnel-pair\n") && written.ends_with(&text), "{written}");
    let said = install(&[]).succeeded().stdout;
    assert!(said.contains(&format!("{shown} is up to date")), "{said}");

    for changed in [format!("{written}\nAsk me twice.\n"), "My own.\n".to_owned()] {
        fs::write(&path, &changed).unwrap();
        let failed = install(&["--json"]).failed("INTERNAL", 1);
        assert!(failed["message"].as_str().unwrap().contains(shown), "{failed}");
        assert_eq!(fs::read_to_string(&path).unwrap(), changed);
    }
    fs::remove_file(&path).unwrap();
    let told = |is_news| json!({ "path": shown, "written": is_news });
    for is_news in [true, false] {
        let mut object = install(&["--json"]).succeeded().json();
        let next = object.as_object_mut().unwrap().remove("next").unwrap();
        assert!(!next.as_str().unwrap().is_empty());
        assert_eq!(object, told(is_news));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
}

#[test]
fn each_agents_project_has_its_own_file() {
    let user = User::new();
    for (agent, place) in [
        ("claude-code", ".claude/skills/mytunnel-pair/SKILL.md"),
        ("cursor", ".cursor/rules/mytunnel-pair.mdc"),
        ("aider", "mytunnel-pair.md"),
        ("devin", "mytunnel-pair.md"),
    ] {
        let project = user.path(agent);
        let args =
            ["pair", "install-skill", "--for", agent, "--project", project.to_str().unwrap(), "--json"];
        let object = user.run(&args).succeeded().json();
        assert_eq!(object["path"], project.join(place).to_str().unwrap(), "{agent}");
        assert!(fs::read_to_string(project.join(place)).unwrap().contains("mytunnel pair install-skill"));
    }
    assert!(!user.path(".claude").exists(), "nothing of it is for all projects");
}
