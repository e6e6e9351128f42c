//! Where dependencies come from and what their licences are, by `deny.toml`: what `cargo deny check licenses sources bans` says, without cargo-deny.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every crate that a build on this machine takes, for tests and the build itself, too.
fn packages() -> Vec<Value> {
    let host = output("rustc", &["-vV"]);
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let args =
        ["metadata", "--locked", "--offline", "--all-features", "--format-version", "1", "--filter-platform", host];
    let metadata: Value = serde_json::from_str(&output(env!("CARGO"), &args)).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Whether an expression can be met: `OR` by one side, `AND` by both.
fn met(words: &mut std::iter::Peekable<std::slice::Iter<'_, String>>, allowed: &BTreeSet<String>) -> bool {
    let mut any = false;
    loop {
        let mut all = true;
        loop {
            let one = match words.next().map(String::as_str) {
                Some("(") => {
                    let inner = met(words, allowed);
                    assert_eq!(words.next().map(String::as_str), Some(")"));
                    inner
                }
                Some(id) => match words.next_if(|w| *w == "WITH") {
                    Some(_) => allowed.contains(&format!("{id} WITH {}", words.next().unwrap())),
                    None => allowed.contains(id),
                },
                None => panic!("a licence expression is cut short"),
            };
            all &= one;
            if words.next_if(|w| *w == "AND").is_none() {
                break;
            }
        }
        any |= all;
        if words.next_if(|w| *w == "OR").is_none() {
            return any;
        }
    }
}

fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // The old way to write OR.
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let mut words = words.iter().peekable();
    let met = met(&mut words, allowed);
    assert!(words.next().is_none(), "{expression} is no licence expression");
    met
}

fn rules() -> toml::Table {
    include_str!("../deny.toml").parse().unwrap()
}

fn texts(value: &toml::Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn licence_expressions_are_read_as_they_are_meant() {
    let allowed = texts(&rules()["licenses"]["allow"]);
    for good in
        ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND IJG", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(is_met(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR LGPL-2.1) AND MIT", "MIT WITH Classpath-exception-2.0"] {
        assert!(!is_met(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_the_registry() {
    let rules = rules();
    let allowed = texts(&rules["licenses"]["allow"]);
    let banned: BTreeSet<String> =
        rules["bans"]["deny"].as_array().unwrap().iter().map(|b| b["crate"].as_str().unwrap().to_owned()).collect();
    let (mut faults, mut sources) = (Vec::new(), BTreeSet::new());
    let packages = packages();
    assert!(packages.len() > 200, "the dependencies were not found");
    for package in packages.iter().filter(|p| p["name"] != "visage") {
        let name = package["name"].as_str().unwrap();
        match package["license"].as_str() {
            Some(licence) if is_met(licence, &allowed) => {}
            licence => faults.push(format!("{name}: licence {licence:?}")),
        }
        if banned.contains(name) {
            faults.push(format!("{name} is banned"));
        }
        match package["source"].as_str() {
            Some(source) if source.starts_with("registry+") => {
                sources.insert(source.to_owned());
            }
            source => faults.push(format!("{name}: from {source:?}")),
        }
    }
    assert!(faults.is_empty(), "deny.toml does not allow:\n{}", faults.join("\n"));
    assert_eq!(sources.len(), 1, "more than one registry: {sources:?}");
}
