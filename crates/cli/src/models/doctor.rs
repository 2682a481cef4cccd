//! `omma models doctor`: which runtimes and providers there are, and how to get the others.

use std::fmt::Write as _;

use omma_adapters::infer::{self, Found, Provider, Runtime, State};
use omma_adapters::picture;
use serde_json::{Value, json};

use super::args::DoctorArgs;
use crate::exit::Exit;
use crate::say;

pub fn run(args: &DoctorArgs) -> Exit {
    let found = infer::survey();
    if args.json {
        let runtimes: Vec<Value> = found.iter().map(object).collect();
        say::json(&json!({ "runtimes": runtimes, "picture_decoder": picture::decoder_name() }));
    } else {
        let text: String = found.iter().map(lines).collect();
        say::out(&format!("{text}pictures are decoded by {}", picture::decoder_name()));
    }
    if found.iter().any(|found| matches!(found.state, State::Present { .. })) { Exit::Done } else { Exit::Failed }
}

/// Those that this runtime could have been built with and was not; only ONNX Runtime has a choice.
fn missing(runtime: Runtime, providers: &[Provider], failing: &[(Provider, String)]) -> Vec<Provider> {
    let all = if runtime == Runtime::OnnxRuntime { &Provider::ALL[..] } else { &[] };
    let there =
        |provider: &Provider| providers.contains(provider) || failing.iter().any(|(failed, _)| failed == provider);
    all.iter().copied().filter(|provider| !there(provider)).collect()
}

fn lines(found: &Found) -> String {
    let mut text = String::new();
    let name = found.runtime.name();
    // Writing to a string cannot fail.
    match &found.state {
        State::Present { library, version, providers, failing } => {
            let place = library.as_ref().map_or(String::new(), |path| format!(", {}", path.display()));
            let names: Vec<&str> = providers.iter().map(|provider| provider.name()).collect();
            let _ = writeln!(text, "{name}: {version}{place}\n    computes with: {}", names.join(", "));
            for (_, why) in failing {
                let _ = writeln!(text, "    {why}");
            }
            for provider in missing(found.runtime, providers, failing) {
                let _ = writeln!(text, "    without {provider}; to get it: {}", provider.install());
            }
        }
        State::Missing { why } => {
            let _ = writeln!(text, "{name}: not here: {why}\n    to get it: {}", found.runtime.install());
        }
    }
    text
}

fn object(found: &Found) -> Value {
    let runtime = found.runtime.name();
    match &found.state {
        State::Present { library, version, providers, failing } => {
            let missing: Vec<Value> = missing(found.runtime, providers, failing)
                .into_iter()
                .map(|provider| json!({ "name": provider.name(), "install": provider.install() }))
                .collect();
            let failing: Vec<Value> =
                failing.iter().map(|(provider, why)| json!({ "name": provider.name(), "why": why })).collect();
            json!({
                "runtime": runtime,
                "present": true,
                "version": version,
                "library": library,
                "providers": providers.iter().map(|provider| provider.name()).collect::<Vec<_>>(),
                "failing_providers": failing,
                "missing_providers": missing,
            })
        }
        State::Missing { why } => {
            json!({ "runtime": runtime, "present": false, "why": why, "install": found.runtime.install() })
        }
    }
}
