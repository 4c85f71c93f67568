//! `mytunnel projects create|list|delete`.

use std::io::{IsTerminal, Write};

use clap::Subcommand;
use mytunnel_keys::api::{NewProject, Project, ProjectCreated, Projects};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::ProjectId;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{MasterToken, Token};
use serde_json::{Value, json};

use crate::config::nearest;
use crate::context::{Context, random};
use crate::failure::Failure;
use crate::report::{Style, columns};
use crate::session::Session;
use crate::span;

/// Create, list and delete projects
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: ProjectsCommand,
}

#[derive(Debug, Subcommand)]
enum ProjectsCommand {
    /// Create a project and its master key, which is shown once
    Create(CreateArgs),
    /// List the projects of your account
    List(ServerArgs),
    /// Delete a project: its keys are revoked, its tunnels end
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// What to call it
    name: String,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// Id (proj_…) or name of the project
    #[arg(value_name = "PROJECT")]
    project: String,

    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// Which of the relays you are signed in to.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ServerArgs {
    /// Relay, of those you are signed in to [default: the last one]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        ProjectsCommand::Create(args) => create(args, context),
        ProjectsCommand::List(args) => list(args, context),
        ProjectsCommand::Delete(args) => delete(args, context),
    }
}

/// The master key is put together here: the server gets its public half only.
fn create(args: &CreateArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.server.as_deref())?;
    let seed = Seed::from_bytes(random()?);
    let request = NewProject { name: args.name.clone(), master: seed.public() };
    let created: ProjectCreated =
        session.post("/projects", &request).map_err(|failure| exists(failure, &session, &args.name))?;
    let id = created.project.id.clone();
    let token = Token::Master(MasterToken {
        seed,
        serial: created.serial,
        project: id.clone(),
        root: *session.root(),
        server: session.server().clone(),
    })
    .to_text();
    let report = context.report;
    report.object(&json!({
        "id": id, "name": created.project.name, "master_key": token.as_str(), "serial": created.serial,
        "created_at": created.project.created_at,
    }));
    report.line(format_args!("Project created: {id}"));
    report.line(format_args!("Master key (save this — shown once): {}", token.as_str()));
    Ok(())
}

/// A name that exists already: which project that is.
fn exists(failure: Failure, session: &Session, name: &str) -> Failure {
    if failure.code() != Code::NameTaken {
        return failure;
    }
    let help = match find(session, name) {
        Ok(project) => format!("Choose another name, or use {} as it is.", project.id),
        Err(_) => "Choose another name.".to_owned(),
    };
    failure.with_help(help)
}

fn list(args: &ServerArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.as_deref())?;
    let answer: Projects = session.get("/projects")?;
    context.report.object(&answer);
    if answer.projects.is_empty() {
        context.report.note("There are no projects yet; create one with `mytunnel projects create NAME`.");
        return Ok(());
    }
    let heading = ["PROJECT", "NAME", "CREATED"].map(str::to_owned).to_vec();
    let row =
        |project: &Project| vec![project.id.to_string(), project.name.clone(), span::utc(project.created_at)];
    let rows: Vec<_> = std::iter::once(heading).chain(answer.projects.iter().map(row)).collect();
    for (at, line) in columns(&rows).into_iter().enumerate() {
        context.report.line(if at == 0 { context.report.styled(Style::Faint, line) } else { line });
    }
    Ok(())
}

fn delete(args: &DeleteArgs, context: &Context) -> Result<(), Failure> {
    if !args.yes && (context.report.is_json() || !somebody_is_there()) {
        return Err(Failure::usage(
            "deleting a project ends all its keys and tunnels, and there is nobody to ask",
            "If you mean it, add --yes.",
        ));
    }
    let session = Session::signed_in(context, args.server.server.as_deref())?;
    let project = find(&session, &args.project)?;
    if !args.yes && !confirmed(&project.name)? {
        return Err(Failure::local("nothing was deleted", "Answer with the project's name, or use --yes."));
    }
    let answer: Value = session.delete(&format!("/projects/{}", project.id))?;
    let mut object = json!({"id": project.id, "deleted": true});
    if let (Value::Object(object), Value::Object(answer)) = (&mut object, answer) {
        object.extend(answer);
    }
    context.report.object(&object);
    context.report.line(format_args!("Project deleted: {} ({})", project.id, project.name));
    Ok(())
}

/// The project of an id or, where it is the only one of it, a name.
pub(crate) fn find(session: &Session, wanted: &str) -> Result<Project, Failure> {
    let answer: Projects = session.get("/projects")?;
    pick(answer.projects, wanted)
}

fn pick(projects: Vec<Project>, wanted: &str) -> Result<Project, Failure> {
    let by_id = wanted.parse::<ProjectId>().ok();
    let is_it = |project: &&Project| by_id.as_ref() == Some(&project.id) || project.name == wanted;
    let found: Vec<&Project> = projects.iter().filter(is_it).collect();
    match found.as_slice() {
        [project] => Ok((*project).clone()),
        [] => {
            let near = nearest(wanted, projects.iter().map(|project| project.name.as_str()));
            let help = match near {
                Some(name) => format!("Did you mean `{name}`?"),
                None => "`mytunnel projects list` shows what there is.".to_owned(),
            };
            Err(Failure::new(Code::NotFound, format!("there is no project `{wanted}`")).with_help(help))
        }
        several => {
            let ids: Vec<String> = several.iter().map(|project| project.id.to_string()).collect();
            Err(Failure::usage(
                format!("{} projects are called `{wanted}`", several.len()),
                format!("Give the id: {}.", ids.join(" or ")),
            ))
        }
    }
}

pub(crate) fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

pub(crate) fn confirmed(name: &str) -> Result<bool, Failure> {
    let ask = || {
        write!(std::io::stderr(), "Its keys are revoked and its tunnels end. Type {name} to delete it: ")?;
        std::io::stderr().flush()?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line.trim() == name)
    };
    ask().map_err(|error| Failure::local(format!("cannot ask: {error}"), "Use --yes."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(id: &str, name: &str) -> Project {
        Project { id: id.parse().unwrap(), name: name.to_owned(), created_at: 0 }
    }

    #[test]
    fn a_project_is_found_by_id_or_by_its_only_name() {
        let all = || vec![project("proj_a", "web"), project("proj_b", "api"), project("proj_c", "api")];
        assert_eq!(pick(all(), "proj_b").unwrap().id.to_string(), "proj_b");
        assert_eq!(pick(all(), "web").unwrap().id.to_string(), "proj_a");
        let several = pick(all(), "api").unwrap_err();
        assert!(several.help().contains("proj_b or proj_c"), "{several:?}");
        let near = pick(vec![project("proj_a", "website")], "webste").unwrap_err();
        assert_eq!(near.help(), "Did you mean `website`?");
        assert_eq!(near.code(), Code::NotFound);
    }
}
