//! Asking a provider: bounded in time, size and number, without redirects.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Semaphore;
use ureq::Agent;
use ureq::http::{Request, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use crate::error::{SignInError, word};

/// For one question, from name to last byte.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Key sets are the largest answers; Google's has 4 kB.
const MAX_ANSWER: u64 = 256 * 1024;
/// Questions to one provider under way at a time, each on a thread of its own.
const AT_A_TIME: usize = 8;
/// Questions that wait for such a thread; who comes then is told to come again.
const WAITING: usize = 64;

/// What asks one provider, in bounds of its own: one that is slow leaves the others alone.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    agent: Agent,
    threads: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Http {
    pub(crate) fn new() -> Self {
        Self {
            agent: agent(RootCerts::WebPki),
            threads: Arc::new(Semaphore::new(AT_A_TIME)),
            queue: Arc::new(Semaphore::new(AT_A_TIME + WAITING)),
        }
    }

    /// The same, in the same bounds, for whom these authorities alone vouch.
    pub(crate) fn trusting(&self, authorities: &[Certificate<'static>]) -> Self {
        Self { agent: agent(RootCerts::new_with_certs(authorities)), ..self.clone() }
    }

    /// Reads something that has to be there.
    pub(crate) async fn get(
        &self,
        what: &'static str,
        url: &Url,
        bearer: Option<&str>,
    ) -> Result<Answer, SignInError> {
        let mut request = Request::get(url.as_str()).header("accept", "application/json");
        if let Some(token) = bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = self.ask(what, request, Zeroizing::default()).await?;
        if answer.status != StatusCode::OK {
            return Err(SignInError::answer(what, format!("status {}", answer.status.as_u16())));
        }
        Ok(answer)
    }

    /// Sends a form.
    pub(crate) async fn post(
        &self,
        what: &'static str,
        url: &Url,
        authorization: Option<Zeroizing<String>>,
        form: &[(&str, &str)],
    ) -> Result<Answer, SignInError> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = Request::post(url.as_str())
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization.as_str());
        }
        self.ask(what, request, Zeroizing::new(body.into_bytes())).await
    }

    async fn ask(
        &self,
        what: &'static str,
        request: ureq::http::request::Builder,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Answer, SignInError> {
        let unusable = |error: &dyn std::error::Error| SignInError::answer(what, error.to_string());
        let request = request.body(body.to_vec()).map_err(|error| unusable(&error))?;
        let _place = self.queue.try_acquire().map_err(|_| SignInError::Busy)?;
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| SignInError::Busy)?;
        let agent = self.agent.clone();
        let asked = tokio::task::spawn_blocking(move || {
            // Held until the thread is done, also when nobody waits for it any more.
            let _thread = thread;
            let mut response = agent.run(request)?;
            let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec()?;
            Ok(Answer { status: response.status(), body: Zeroizing::new(body) })
        });
        let unreachable = |source: ureq::Error| SignInError::Unreachable { what, source: Arc::new(source) };
        asked.await.map_err(|error| unusable(&error))?.map_err(unreachable)
    }
}

/// Asks whoever these roots vouch for.
fn agent(roots: RootCerts) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
    let agent = Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .timeout_connect(Some(CONNECT_PATIENCE))
        .http_status_as_error(false)
        // Codes and secrets go where the issuer's description says, and nowhere else.
        .max_redirects(0)
        .user_agent(concat!("mytunnel/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build();
    Agent::new_with_config(agent)
}

/// What a token endpoint gives for a code.
pub(crate) struct Tokens {
    pub(crate) access_token: Option<Zeroizing<String>>,
    pub(crate) id_token: Option<Zeroizing<String>>,
}

impl Tokens {
    /// Reads the answer of a token endpoint; GitHub tells errors with status 200.
    pub(crate) fn read(answer: &Answer) -> Result<Self, SignInError> {
        #[derive(Deserialize)]
        struct Body {
            access_token: Option<String>,
            id_token: Option<String>,
            error: Option<String>,
        }
        match serde_json::from_slice(&answer.body) {
            Ok(Body { error: Some(error), .. }) => Err(SignInError::Refused { error: word(&error) }),
            Ok(Body { access_token, id_token, .. }) if answer.status.is_success() => Ok(Self {
                access_token: access_token.map(Zeroizing::new),
                id_token: id_token.map(Zeroizing::new),
            }),
            Ok(_) | Err(_) => {
                Err(SignInError::answer("answer to the code", format!("status {}", answer.status.as_u16())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use ureq::tls::{PemItem, parse_pem};

    use super::*;

    /// A server by its own authority, which answers as often as it is asked until the test ends.
    fn server() -> (Url, Vec<Certificate<'static>>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, socket);
                // Who does not trust it breaks off.
                if stream.read(&mut [0; 4096]).is_ok() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
                }
            }
        });
        let pem = certificate.pem();
        let trusted = parse_pem(pem.as_bytes()).map(|item| {
            let PemItem::Certificate(certificate) = item.unwrap() else { panic!("not a certificate") };
            certificate
        });
        let trusted = trusted.collect();
        (url.parse().unwrap(), trusted)
    }

    #[tokio::test]
    async fn an_authority_of_the_companys_own_vouches_for_whom_it_is_named() {
        let (url, authorities) = server();
        let everybody = Http::new();
        let refused = everybody.get("description of itself", &url, None).await;
        assert!(matches!(refused, Err(SignInError::Unreachable { .. })), "{refused:?}");
        let answer = everybody.trusting(&authorities).get("description of itself", &url, None).await;
        assert_eq!(answer.unwrap().body.as_slice(), b"{}");
        // It vouches for nobody else, and nobody else for it.
        let (other, _) = server();
        let refused = everybody.trusting(&authorities).get("description of itself", &other, None).await;
        assert!(matches!(refused, Err(SignInError::Unreachable { .. })), "{refused:?}");
    }
}
