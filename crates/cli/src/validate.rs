//! `omma validate`: all problems of a configuration at once, or what it comes to.

use omma_config::Config;
use serde_json::json;

use crate::args::ValidateArgs;
use crate::exit::Exit;
use crate::human;
use crate::say;

pub fn run(args: &ValidateArgs) -> Exit {
    let file = &args.config.file;
    match omma_config::load(file) {
        Ok(config) => {
            if args.json {
                let mut object = json!({
                    "ok": true,
                    "file": file,
                    "cameras": config.cameras().count(),
                    "models": config.models.iter().map(|model| &model.name).collect::<Vec<_>>(),
                    "sources": config.sources.iter().map(|source| &source.name).collect::<Vec<_>>(),
                    "sinks": config.sinks.iter().map(|sink| &sink.plan.name).collect::<Vec<_>>(),
                });
                if args.effective {
                    object["effective"] = config.effective().into();
                }
                say::json(&object);
            } else if args.effective {
                say::out(config.effective().trim_end());
            } else {
                say::out(&format!("{}: sound: {}", file.display(), summary(&config)));
            }
            Exit::Done
        }
        Err(problems) => {
            if args.json {
                say::json(&json!({ "ok": false, "file": file, "problems": problems.problems }));
            } else {
                say::note(&problems.to_string());
            }
            Exit::Usage
        }
    }
}

fn summary(config: &Config) -> String {
    [
        human::counted(config.cameras().count(), "camera"),
        human::counted(config.sources.len(), "source"),
        human::counted(config.models.len(), "model"),
        human::counted(config.sinks.len(), "sink"),
    ]
    .join(", ")
}
