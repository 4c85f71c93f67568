//! A real PostgreSQL behind a TCP tunnel, and its own client as the visitor.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::{lab, output};

#[tokio::test]
async fn a_database_is_used_through_a_port() -> Result<()> {
    let server = std::env::var("MYTUNNEL_TEST_POSTGRES")
        .context("there is no PostgreSQL: run this by .ci/with-postgres")?;
    let (_, place) = server.split_once("host=").context("the folder of its socket")?;
    let lab = lab().await?;
    let target = format!("unix:{place}/.s.PGSQL.5432");
    let mut node = lab.spawn(&["tcp", &target, "--name", "db", "--json"])?;
    let ready = node.event("ready").await?;
    let port = ready["url"].as_str().and_then(|url| url.rsplit_once(':')).context("a URL")?.1;
    let visitor = format!("postgres://mytunnel@127.0.0.1:{port}/postgres");
    // Some 14 MB in, the same out, and their digest on both sides.
    let script = "\
        \\set QUIET on\n\
        CREATE TEMPORARY TABLE sent (line TEXT);\n\
        \\copy sent FROM PROGRAM 'seq 1 2000000'\n\
        SELECT count(*), md5(string_agg(line, E'\\n' ORDER BY line::int)) FROM sent;\n\
        \\copy (SELECT line FROM sent ORDER BY line::int) TO PROGRAM 'md5sum > back'\n";
    let script_file = lab.path("script.sql");
    std::fs::write(&script_file, script)?;
    let file = script_file.to_str().context("a path in UTF-8")?;
    let mut psql = Command::new("psql");
    psql.args([&visitor, "-v", "ON_ERROR_STOP=1", "-A", "-t", "-f", file]);
    psql.current_dir(script_file.parent().context("a folder")?);
    let told = output(&mut psql).await?;
    let expected = output(Command::new("bash").args(["-c", "seq 1 2000000 | md5sum"])).await?;
    let without_end =
        output(Command::new("bash").args(["-c", "printf %s \"$(seq 1 2000000)\" | md5sum"])).await?;
    let digest = without_end.split_whitespace().next().context("a digest")?;
    ensure!(told.contains(&format!("2000000|{digest}")), "{told}");
    ensure!(std::fs::read_to_string(lab.path("back"))? == expected, "what came back is not what was sent");
    Ok(())
}
