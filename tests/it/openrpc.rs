//! The OpenRPC documents say what the types say, and their examples hold.

use hero_proc_cleanup::{
    DEFAULT_LIMIT, DEFAULT_MAX_IDS, Guard, Host, Kind, MAX_LIMIT, MAX_TAG_BYTES, MAX_TAGS, cleanup_by_tag, openrpc,
};
use serde_json::{Map, Value, json};

use crate::sample::Sample;
use crate::server::Server;

fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn params(method: &Value) -> Map<String, Value> {
    let params = method["params"].as_array().unwrap().iter();
    params.map(|param| (param["name"].as_str().unwrap().to_owned(), param.clone())).collect()
}

#[test]
fn they_are_openrpc_of_this_version() {
    for (text, method) in [(openrpc::HERO_PROC, "job.cleanup_by_tag"), (openrpc::CODESCALERS, "jobs.cleanup")] {
        let document = document(text);
        assert_eq!(document["openrpc"], "1.2.6");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["methods"][0]["name"], method);
        assert_eq!(document["methods"][0]["paramStructure"], "by-name");
        assert_eq!(document["methods"][1]["name"], "rpc.discover");
    }
}

/// Every param that a document names is understood, no other is, and limits are where it says.
#[test]
fn params_are_those_of_the_method() {
    let document = document(openrpc::HERO_PROC);
    let params = params(&document["methods"][0]);
    let names: Vec<&str> = params.keys().map(String::as_str).collect();
    assert_eq!(names, ["dry_run", "expect_plan", "force", "limit", "max_ids", "older_than_ms", "tags"]);
    let required: Vec<&String> =
        params.iter().filter(|(_, param)| param["required"] == true).map(|(name, _)| name).collect();
    assert_eq!(required, ["tags"]);
    let schema = |name: &str| &params[name]["schema"];
    assert_eq!(schema("limit")["default"], DEFAULT_LIMIT);
    assert_eq!(schema("max_ids")["default"], DEFAULT_MAX_IDS);
    assert_eq!(schema("dry_run")["default"], false);
    assert_eq!(schema("force")["default"], false);
    assert_eq!((&schema("limit")["minimum"], &schema("limit")["maximum"]), (&json!(1), &json!(MAX_LIMIT)));
    assert_eq!((&schema("max_ids")["minimum"], &schema("max_ids")["maximum"]), (&json!(0), &json!(MAX_LIMIT)));
    assert_eq!(schema("older_than_ms")["maximum"], i64::MAX);
    assert_eq!(schema("tags")["maxItems"], MAX_TAGS);
    assert_eq!(schema("tags")["items"]["maxLength"], MAX_TAG_BYTES);

    let sample = Sample::new();
    let host = Host::new(Guard::codescaler());
    let call = |params: Value| cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now());
    for (name, schema) in params.iter().map(|(name, param)| (name, &param["schema"])) {
        for edge in ["minimum", "maximum"] {
            let Some(number) = schema.get(edge).and_then(Value::as_i64) else { continue };
            let mut params = json!({ "tags": ["codescaler"], "dry_run": true });
            params[name] = number.into();
            assert!(call(params.clone()).is_ok(), "{params}");
            let beyond = if edge == "minimum" { number.checked_sub(1) } else { number.checked_add(1) };
            params[name] = beyond.map_or(json!(u64::MAX), Value::from);
            assert_eq!(call(params).unwrap_err().data["param"], *name);
        }
    }
}

/// The report's schema has the fields of a report, with their types, and no others.
#[test]
fn the_result_is_a_report() {
    let sample = Sample::new();
    let host = Host::new(Guard::codescaler());
    let params = json!({ "tags": ["codescaler"], "older_than_ms": 86_400_000 });
    let report = cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now()).unwrap();
    let report = serde_json::to_value(&report).unwrap();
    for text in [openrpc::HERO_PROC, openrpc::CODESCALERS] {
        let document = document(text);
        let schemas = &document["components"]["schemas"];
        assert_fits(&report, &schemas["Report"], schemas);
    }
}

/// As much of JSON Schema as the documents use.
fn assert_fits(value: &Value, schema: &Value, schemas: &Value) {
    if let Some(reference) = schema["$ref"].as_str() {
        return assert_fits(value, &schemas[reference.rsplit('/').next().unwrap()], schemas);
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let fits = kinds.iter().any(|kind| match kind.as_str().unwrap() {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other}"),
    });
    assert!(fits, "{value} is no {kinds:?}");
    for item in value.as_array().into_iter().flatten() {
        assert_fits(item, &schema["items"], schemas);
    }
    if let (Value::Object(fields), Value::Object(properties)) = (value, &schema["properties"]) {
        let mut names: Vec<&String> = fields.keys().collect();
        let mut expected: Vec<&str> = properties.keys().map(String::as_str).collect();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
        let required: Vec<&str> =
            schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(required.len(), expected.len(), "every field is always there");
        fields.iter().for_each(|(name, field)| assert_fits(field, &properties[name], schemas));
    }
}

#[test]
fn every_error_is_documented_with_its_code() {
    let documented = |text: &str| -> Vec<(i64, String)> {
        let document = document(text);
        let errors = document["methods"][0]["errors"].as_array().unwrap().iter();
        errors
            .map(|error| (error["code"].as_i64().unwrap(), error["data"]["kind"].as_str().unwrap().to_owned()))
            .collect()
    };
    let store = documented(openrpc::HERO_PROC);
    let gate = documented(openrpc::CODESCALERS);
    for kind in Kind::ALL {
        let error = (i64::from(kind.code()), kind.as_str().to_owned());
        let (on_store, on_gate) = match kind {
            Kind::ParseError | Kind::InvalidRequest | Kind::MethodNotFound => (false, false),
            Kind::TagOutsideGuard => (true, false),
            Kind::NotAdmin | Kind::UpstreamUnreachable | Kind::OutcomeUnknown => (false, true),
            _ => (true, true),
        };
        assert_eq!((store.contains(&error), gate.contains(&error)), (on_store, on_gate), "{error:?}");
    }
}

#[test]
fn the_examples_hold_on_the_running_binary() {
    let sample = Sample::new();
    let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
    replay(&server, openrpc::HERO_PROC);

    let sample = Sample::new();
    let hero_proc = Server::serve(&sample.path, &sample.directory.path().join("hero_proc.sock"));
    let gateway = Server::gateway(&sample.directory.path().join("gateway.sock"), &hero_proc.socket, &[]);
    replay(&gateway, openrpc::CODESCALERS);
}

fn replay(server: &Server, text: &str) {
    let document = document(text);
    let method = &document["methods"][0];
    let mut plan = Value::Null;
    for example in method["examples"].as_array().unwrap() {
        let mut params = Map::new();
        for param in example["params"].as_array().unwrap() {
            params.insert(param["name"].as_str().unwrap().to_owned(), param["value"].clone());
        }
        if params.contains_key("expect_plan") {
            params.insert("expect_plan".to_owned(), plan.clone());
        }
        let answer = server.call(method["name"].as_str().unwrap(), &Value::Object(params));
        let mut result = answer["result"].clone();
        plan = result["plan"].clone();
        let expected = &example["result"]["value"];
        for varies in ["cutoff_ms", "plan", "duration_ms", "lock_ms"] {
            assert_eq!(result[varies].is_number(), expected[varies].is_number(), "{varies}");
            result[varies] = expected[varies].clone();
        }
        assert_eq!(&result, expected, "{}", example["name"]);
    }
}

/// The gateway takes what its document names, and what it passes on is documented as hero_proc's side has it.
#[test]
fn the_gateways_params_are_its_own_and_hero_procs() {
    let [hero_proc, codescalers] =
        [openrpc::HERO_PROC, openrpc::CODESCALERS].map(|text| params(&document(text)["methods"][0]));
    let own = ["actor", "kind", "target"];
    for (name, param) in &codescalers {
        assert_eq!(param["required"], false, "{name}");
        assert!(own.contains(&name.as_str()) || hero_proc[name] == *param, "{name}");
    }
    let mut names: Vec<&str> = hero_proc.keys().map(String::as_str).filter(|name| *name != "tags").chain(own).collect();
    names.sort_unstable();
    assert_eq!(codescalers.keys().map(String::as_str).collect::<Vec<_>>(), names);
}

#[test]
fn they_are_served_as_they_are() {
    let sample = Sample::new();
    let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
    assert_eq!(server.get("/openrpc.json").body, openrpc::HERO_PROC.as_bytes());
    assert_eq!(server.call("rpc.discover", &json!({}))["result"], document(openrpc::HERO_PROC));
    let gateway = Server::gateway(&sample.directory.path().join("gateway.sock"), &server.socket, &[]);
    assert_eq!(gateway.get("/openrpc.json").body, openrpc::CODESCALERS.as_bytes());
    assert_eq!(gateway.call("rpc.discover", &json!({}))["result"], document(openrpc::CODESCALERS));
    assert_eq!(gateway.get("/health").json()["service"], "hero_codescalers_cleanup");
}
