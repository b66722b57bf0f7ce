//! The README's tables say what the program does: its options as `--help` prints them, its pages,
//! its numbers, its errors, and the defaults of a service's parameters.
//!
//! A table stands between `<!-- name -->` and `<!-- /name -->`. Only what a program can know is
//! compared: names, defaults, statuses and their order, not the sentences.

use std::collections::BTreeSet;
use std::process::Command;
use waiter::base::fault::{Class, Whose};
use waiter::core::service::table as parameters;
use waiter::core::service::testing::description;

const README: &str = include_str!("../README.md");

/// Pages and numbers are named in these files.
const PAGES: &str = include_str!("../src/api/pages.rs");
const PARTS: &str = include_str!("../src/api/state.rs");
const METRICS: [&str; 2] =
    [include_str!("../src/api/metrics.rs"), include_str!("../src/api/metrics/cluster.rs")];

/// Every class of fault.
const CLASSES: [Class; 24] = [
    Class::BadRequest,
    Class::HeadTooLarge,
    Class::ClientTimeout,
    Class::NotImplemented,
    Class::VersionUnsupported,
    Class::ExpectationFailed,
    Class::NotFound,
    Class::MethodNotAllowed,
    Class::ServiceUnknown,
    Class::ServiceMisconfigured,
    Class::ServiceForbidden,
    Class::TokenUnknown,
    Class::CorsPreflightForbidden,
    Class::CorsRequestForbidden,
    Class::UnsupportedAuth,
    Class::RequestTimeout,
    Class::DeploymentError,
    Class::QueueLength,
    Class::ReserveBackPressure,
    Class::Draining,
    Class::ConnectFailed,
    Class::InstanceError,
    Class::InstanceTimeout,
    Class::Internal,
];

/// The rows of a table, without its head, cell by cell.
fn table(name: &str) -> Vec<Vec<String>> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let (_, rest) = README.split_once(&begin).unwrap_or_else(|| panic!("README lacks {begin}"));
    let (text, _) = rest.split_once(&end).unwrap_or_else(|| panic!("README lacks {end}"));
    let rows = text.lines().filter(|it| it.starts_with('|')).skip(2);
    rows.map(|row| {
        // A bar within a cell is escaped, also between backticks.
        let row = row.trim().trim_matches('|').replace("\\|", "\u{0}");
        row.split('|').map(|it| it.trim().replace('\u{0}', "|")).collect()
    })
    .collect()
}

/// What stands between backticks, or the whole.
fn plain(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// What stands between quotes after this.
fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(|it| it.split('"').next())
}

/// The options of `waiter serve --help`: as written there, and the default.
fn options_of_help() -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_waiter"))
        .args(["serve", "--help"])
        .output()
        .expect("the program runs");
    let help = String::from_utf8(output.stdout).expect("help is text");
    let (_, list) = help.split_once("Options:\n").expect("there are options");
    let mut options: Vec<(String, String)> = Vec::new();
    for line in list.lines().map(str::trim) {
        let line = line.trim_start_matches("-h, ");
        if line.starts_with("--") {
            options.push((line.to_owned(), String::new()));
        } else if let Some((_, text)) = options.last_mut() {
            text.push_str(line);
            text.push(' ');
        }
    }
    options.iter().map(|(name, text)| (name.clone(), default_of(text))).collect()
}

fn default_of(text: &str) -> String {
    let default = text.split_once("[default: ").and_then(|(_, it)| it.split_once(']'));
    default.map_or("none", |(it, _)| it).to_owned()
}

#[test]
fn options_are_those_of_help_in_its_order() {
    let written = table("options").into_iter().map(|row| (plain(&row[0]), plain(&row[2])));
    let written: Vec<_> = written.collect();
    let real = options_of_help();
    assert!(real.len() > 30, "help was not understood: {real:?}");
    for (row, option) in written.iter().zip(&real) {
        assert_eq!(row, option, "README's table of options differs from --help");
    }
    assert_eq!(written.len(), real.len(), "README's table of options is not whole");
}

#[test]
fn pages_are_those_the_router_has() {
    let listed = table("pages").into_iter().map(|row| plain(&row[0]));
    // `/apps/<service-id>/logs` is what stands behind `/apps/`, and before `/logs`.
    let pieces = |it: String| -> Vec<String> {
        let around = it.split(['<', '>']).step_by(2).filter(|it| !it.is_empty());
        around.map(str::to_owned).collect()
    };
    let listed = listed.flat_map(pieces);
    let code = PAGES.split("#[cfg(test)]").next().expect("a first piece");
    let served = quoted(code, "b\"").filter(|it| it.starts_with('/')).map(str::to_owned);
    assert_eq!(listed.collect::<BTreeSet<_>>(), served.collect::<BTreeSet<_>>());
}

#[test]
fn parts_of_the_state_are_those_there_are() {
    let row = table("pages").into_iter().find(|it| it[0] == "`/state/<part>`").expect("a row");
    let listed: BTreeSet<&str> = row[1].split('`').skip(1).step_by(2).collect();
    let (_, list) = PARTS.split_once("const COMPONENTS").expect("a list of parts");
    let (list, _) = list.split_once("\n];").expect("its end");
    assert_eq!(listed, quoted(list, "(\"").collect());
}

#[test]
fn numbers_are_those_of_the_page() {
    let listed: BTreeSet<String> = table("metrics").iter().map(|row| plain(&row[0])).collect();
    let code = |it: &'static str| it.split("#[cfg(test)]").next().expect("a first piece");
    let told = METRICS.into_iter().flat_map(|it| quoted(code(it), "\"waiter_"));
    let told = told.map(|it| format!("waiter_{it}"));
    assert_eq!(listed, told.collect());
}

#[test]
fn errors_are_those_of_the_table_of_faults() {
    let whose = |whose| match whose {
        Whose::Client => "client",
        Whose::Service => "service",
        Whose::Router => "router",
    };
    let real: BTreeSet<Vec<String>> = CLASSES
        .iter()
        .map(|class| {
            let row = class.row();
            let name = row.class.map(|it| format!("`{it}`")).unwrap_or_default();
            vec![row.status.to_string(), row.title.to_owned(), name, whose(row.whose).to_owned()]
        })
        .collect();
    let written: BTreeSet<Vec<String>> =
        table("errors").into_iter().map(|row| row[..4].to_vec()).collect();
    assert_eq!(written, real);
}

#[test]
fn parameters_have_the_defaults_that_are_told() {
    let service = description("s");
    for row in table("parameters") {
        let (name, default) = (plain(&row[0]), plain(&row[3]));
        assert!(parameters::place(&name).is_some(), "{name} is no parameter");
        let real = match service.effective(&name) {
            _ if default == "required" => continue,
            None => "none".to_owned(),
            Some(serde_json::Value::String(text)) => text,
            Some(other) => other.to_string(),
        };
        assert_eq!(default, real, "{name}");
    }
}

/// What `waiter serve --print-config` with these arguments writes.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_waiter"))
        .args(["serve", "--print-config"])
        .args(arguments)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("settings are text")
}

#[test]
fn the_configuration_file_that_is_shown_is_read_and_printed_settings_are_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("waiter.toml");
    let path = path.to_str().expect("a name in UTF-8");
    let (_, rest) = README.split_once("```toml\n").expect("a configuration file is shown");
    let (shown, _) = rest.split_once("```").expect("its end");
    std::fs::write(path, shown).expect("written");
    let first = printed(&["--config", path]);
    assert!(first.contains("\ndrain-secs = 30\n"), "{first}");
    std::fs::write(path, &first).expect("written");
    assert_eq!(printed(&["--config", path]), first);
    // Every key is explained by what `--help` says of its flag.
    let keys = first.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count();
    assert_eq!(keys + 3, options_of_help().len(), "--config, --print-config, --help are no keys");
    let explained = first.split("\n\n").skip(1).all(|key| key.starts_with("# "));
    assert!(explained, "{first}");
}
