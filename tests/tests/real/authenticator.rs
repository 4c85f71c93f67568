//! The second factor with an authenticator that is not ours: `oathtool`.

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::{Lab, PASSWORD};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{lab, output};

const EMAIL: &str = "owner@example.com";

/// What the authenticator shows, so many seconds from now.
async fn shown(secret: &str, later: u64) -> Result<String> {
    let now = format!("+{later} seconds");
    let line = output(Command::new("oathtool").args(["--totp", "--base32", "--now", &now, secret])).await?;
    Ok(line.trim().to_owned())
}

async fn post(lab: &Lab, token: Option<&str>, path: &str, body: &Value) -> Result<Value> {
    let mut curl = Command::new("curl");
    curl.args(["--fail-with-body", "--silent", "--show-error", "--header", "content-type: application/json"]);
    if let Some(token) = token {
        curl.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let url = format!("{}/api/v1{path}", lab.server());
    let answer = output(curl.args(["--data", &body.to_string(), &url])).await?;
    Ok(serde_json::from_str(&answer)?)
}

fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str> {
    answer[field].as_str().with_context(|| format!("{field} in {answer}"))
}

#[tokio::test]
async fn another_programs_codes_enrol_and_sign_in() -> Result<()> {
    let lab = lab().await?;
    let who = json!({"email": EMAIL, "password": PASSWORD});
    let login = post(&lab, None, "/auth/login", &who).await?;
    let token = text(&login, "access_token")?;
    let enrolment = post(&lab, Some(token), "/auth/mfa/enroll", &Value::Null).await?;
    let secret = text(&enrolment, "secret_base32")?;
    let proof = json!({"secret_base32": secret, "code": shown(secret, 0).await?});
    let enabled = post(&lab, Some(token), "/auth/mfa/enroll/verify", &proof).await?;
    ensure!(enabled["status"] == "enabled", "{enabled}");

    let challenge = post(&lab, None, "/auth/login", &who).await?;
    ensure!(challenge["mfa_required"] == true, "{challenge}");
    // The code of the next step: that of this one may be used up.
    let code = shown(secret, 30).await?;
    let answer = json!({"challenge_token": text(&challenge, "challenge_token")?, "code": code});
    let signed_in = post(&lab, None, "/auth/login/mfa", &answer).await?;
    text(&signed_in, "access_token")?;

    let server = lab.server();
    let login = ["login", &server, "--email", EMAIL, "--json"];
    let with = async |code: &str| {
        lab.run_with(&login, &[("MYTUNNEL_PASSWORD", PASSWORD), ("MYTUNNEL_TOTP", code)]).await
    };
    let again = with(&code).await?;
    ensure!(again.code == Some(3) && again.json()?["code"] == "MFA_INVALID", "{again:?}");
    let recovery = enabled["recovery_codes"][0].as_str().context("a recovery code")?;
    let by_recovery = with(recovery).await?;
    ensure!(by_recovery.code == Some(0), "{by_recovery:?}");
    Ok(())
}
