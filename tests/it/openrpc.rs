//! The OpenRPC documents say what the types say, and their examples hold.

use std::collections::BTreeMap;
use std::mem::discriminant;

use hero_proc_cleanup::openrpc::MergeError;
use hero_proc_cleanup::{DEFAULT_MAX_IDS, Kind, MAX_LIMIT, PlanToken, RpcError, openrpc};
use serde_json::{Map, Value, json};

use crate::support::call::{all_with, call, dry_run};
use crate::support::sample::Sample;
use crate::support::server::Server;

fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn params(method: &Value) -> Map<String, Value> {
    let params = method["params"].as_array().unwrap().iter();
    params.map(|param| (param["name"].as_str().unwrap().to_owned(), param.clone())).collect()
}

const HERO_PROC: [&str; 3] = ["job.cleanup_by_tag", "job.usage_by_tag", "store.reclaim"];
const CODESCALERS: [&str; 3] = ["jobs.cleanup", "jobs.usage", "jobs.reclaim"];

#[test]
fn they_are_openrpc_of_this_version() {
    for (text, methods) in [(openrpc::HERO_PROC, HERO_PROC), (openrpc::CODESCALERS, CODESCALERS)] {
        let document = document(text);
        assert_eq!(document["openrpc"], "1.2.6");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let (discover, own) = document["methods"].as_array().unwrap().split_last().unwrap();
        assert_eq!(discover["name"], "rpc.discover");
        assert_eq!(own.iter().map(|method| &method["name"]).collect::<Vec<_>>(), methods);
        assert!(own.iter().all(|method| method["paramStructure"] == "by-name"));
        assert_openrpc(&document);
    }
}

/// Every param that a document names is understood, no other is, and limits are where it says.
#[test]
fn params_are_those_of_the_method() {
    let document = document(openrpc::HERO_PROC);
    let params = params(&document["methods"][0]);
    let names: Vec<&str> = params.keys().map(String::as_str).collect();
    let expected = [
        "before_ms",
        "dry_run",
        "except_tags",
        "expect_plan",
        "force",
        "keep_by",
        "keep_last",
        "leaked",
        "limit",
        "max_ids",
        "older_than_ms",
        "phases",
        "tags",
    ];
    assert_eq!(names, expected);
    let required: Vec<&String> =
        params.iter().filter(|(_, param)| param["required"] == true).map(|(name, _)| name).collect();
    assert_eq!(required, ["tags"]);
    let schema = |name: &str| &params[name]["schema"];
    assert_eq!(schema("limit")["default"], Value::Null, "it depends on the bytes");
    assert_eq!(schema("max_ids")["default"], DEFAULT_MAX_IDS);
    assert_eq!(schema("dry_run")["default"], false);
    assert_eq!(schema("force")["default"], false);
    assert_eq!(schema("leaked")["default"], true);
    assert_eq!((&schema("limit")["minimum"], &schema("limit")["maximum"]), (&json!(1), &json!(MAX_LIMIT)));
    assert_eq!((&schema("max_ids")["minimum"], &schema("max_ids")["maximum"]), (&json!(0), &json!(MAX_LIMIT)));
    assert_eq!(schema("older_than_ms")["maximum"], i64::MAX);

    let sample = Sample::new();
    let call = |params: Value| call(&sample, params);
    for (name, schema) in params.iter().map(|(name, param)| (name, &param["schema"])) {
        for edge in ["minimum", "maximum"] {
            let Some(number) = schema.get(edge).and_then(Value::as_i64) else { continue };
            let mut params = dry_run();
            params[name] = number.into();
            assert!(call(params.clone()).is_ok(), "{params}");
            let beyond = if edge == "minimum" { number.checked_sub(1) } else { number.checked_add(1) };
            params[name] = beyond.map_or(json!(u64::MAX), Value::from);
            assert_eq!(call(params).unwrap_err().data["param"], *name);
        }
    }
    let most = |of: &Value, name: &str| usize::try_from(of[name].as_u64().unwrap()).unwrap();
    let (tags, bytes) = (most(schema("tags"), "maxItems"), most(&schema("tags")["items"], "maxLength"));
    let call = |tags: usize, bytes: usize| {
        call(json!({ "tags": vec![format!("{:_<bytes$}", "codescaler"); tags], "dry_run": true }))
    };
    assert!(call(tags, bytes).is_ok());
    for (tags, bytes) in [(0, bytes), (tags + 1, bytes), (tags, bytes + 1)] {
        assert_eq!(call(tags, bytes).unwrap_err().data["param"], "tags");
    }
}

/// The report's schema has the fields of a report, with their types, and no others.
#[test]
fn the_result_is_a_report() {
    let sample = Sample::new();
    let report = call(&sample, all_with(json!({ "older_than_ms": 86_400_000 }))).unwrap();
    let report = serde_json::to_value(&report).unwrap();
    for text in [openrpc::HERO_PROC, openrpc::CODESCALERS] {
        let document = document(text);
        let schemas = &document["components"]["schemas"];
        assert_fits(&report, &schemas["Report"], schemas);
    }
}

/// What `store.reclaim` takes and answers is what both documents say, to the edges of its params.
#[test]
fn reclaiming_is_as_documented() {
    let sample = Sample::new();
    let reclaim = |params: Value| -> Result<Value, RpcError> {
        let result = hero_proc_cleanup::call(
            "store.reclaim",
            &params,
            &sample,
            &crate::support::call::host(),
            chrono::Utc::now(),
        )?;
        Ok(serde_json::from_str(result.get()).unwrap())
    };
    let reclaimed = reclaim(json!({ "dry_run": true, "min_free_percent": 0, "min_free_bytes": 0 })).unwrap();
    assert_eq!(reclaimed["outcome"], "done");
    for (text, name) in [(openrpc::HERO_PROC, "store.reclaim"), (openrpc::CODESCALERS, "jobs.reclaim")] {
        let document = document(text);
        let schemas = &document["components"]["schemas"];
        assert_fits(&reclaimed, &schemas["Reclaimed"], schemas);
        let methods = document["methods"].as_array().unwrap();
        let method = methods.iter().find(|method| method["name"] == name).unwrap();
        let (params, data) = (params(method), jsonschema::draft7::new(&schemas["ErrorData"]).unwrap());
        assert_eq!(params.keys().collect::<Vec<_>>(), ["dry_run", "min_free_bytes", "min_free_percent", "within_ms"]);
        for (name, schema) in params.iter().map(|(name, param)| (name, &param["schema"])) {
            for (edge, beyond) in [("minimum", -1), ("maximum", 1)] {
                let Some(number) = schema.get(edge).and_then(Value::as_i64) else { continue };
                assert!(reclaim(json!({ "dry_run": true, name: number })).is_ok(), "{name} {number}");
                let error = reclaim(json!({ "dry_run": true, name: number + beyond })).unwrap_err();
                assert_eq!(error.data["param"], *name);
            }
        }
        for error in method["errors"].as_array().unwrap() {
            assert!(data.is_valid(&error["data"]), "{error}");
        }
    }
}

/// Generators name types by titles: every schema has one, and it names no other schema.
#[test]
fn every_schema_has_a_title_of_its_own() {
    fn walk<'v>(schema: &'v Value, place: &str, titled: &mut BTreeMap<&'v str, &'v Value>) {
        if schema.get("$ref").is_some() {
            return;
        }
        let title = schema["title"].as_str().unwrap_or_else(|| panic!("{place} has no title: {schema}"));
        assert_eq!(titled.insert(title, schema).unwrap_or(schema), schema, "{title}");
        let properties = schema["properties"].as_object().into_iter().flatten();
        properties.for_each(|(name, schema)| walk(schema, &format!("{place}.{name}"), titled));
        let inner = ["items", "additionalProperties"].iter().filter_map(|key| schema.get(key));
        inner.filter(|inner| inner.is_object()).for_each(|inner| walk(inner, &format!("{place}[]"), titled));
        schema["oneOf"].as_array().into_iter().flatten().for_each(|schema| walk(schema, place, titled));
    }
    for text in [openrpc::HERO_PROC, openrpc::CODESCALERS] {
        let document = document(text);
        let mut titled = BTreeMap::new();
        for method in document["methods"].as_array().unwrap() {
            let params = method["params"].as_array().unwrap().iter();
            for described in params.chain([&method["result"]]) {
                walk(&described["schema"], described["name"].as_str().unwrap(), &mut titled);
            }
        }
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            walk(schema, name, &mut titled);
        }
        assert!(titled.len() > 60);
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
    for &kind in Kind::ALL {
        let error = (i64::from(kind.code()), kind.as_str().to_owned());
        let (on_store, on_gate) = match kind {
            // The others are what a hero_proc may answer, whatever its guard is around.
            Kind::UpstreamUnreachable | Kind::OutcomeUnknown => (false, true),
            _ => (true, true),
        };
        assert_eq!((store.contains(&error), gate.contains(&error)), (on_store, on_gate), "{error:?}");
    }
}

/// Each documented error's data fits the schema of such data, which has an alternative for each kind and no others.
#[test]
fn the_data_of_errors_fits_its_schema() {
    for text in [openrpc::HERO_PROC, openrpc::CODESCALERS] {
        let document = document(text);
        let schema = &document["components"]["schemas"]["ErrorData"];
        let data = jsonschema::draft7::new(schema).unwrap();
        let words: Vec<&Value> =
            schema["oneOf"].as_array().unwrap().iter().map(|kind| &kind["properties"]["kind"]["const"]).collect();
        assert_eq!(words, Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>());
        for error in document["methods"][0]["errors"].as_array().unwrap() {
            assert!(data.is_valid(&error["data"]), "{error}");
            let kind = Kind::ALL.iter().find(|kind| error["data"]["kind"] == kind.as_str()).unwrap();
            let bare = RpcError::new(*kind, "").data;
            let helps = error["data"].as_object().unwrap().len() > 1;
            // No param has to be named where params are no object.
            assert_eq!(data.is_valid(&bare), !helps || *kind == Kind::InvalidParams, "{kind:?}");
        }
    }
}

/// What the running binary answers fits that schema, too, and stands in the document.
#[test]
fn errors_are_answered_as_documented() {
    let sample = Sample::new();
    let server = sample.serve();
    let document = document(openrpc::HERO_PROC);
    let data = jsonschema::draft7::new(&document["components"]["schemas"]["ErrorData"]).unwrap();
    let documented = document["methods"][0]["errors"].as_array().unwrap();
    let call = |params: Value| json!({ "jsonrpc": "2.0", "id": 1, "method": "job.cleanup_by_tag", "params": params });
    let ask = |params: Value| call(params).to_string();
    let plan = server.call("job.cleanup_by_tag", &dry_run())["result"]["plan"].take();
    let other_set = format!("{}{:064}", &plan.as_str().unwrap()[..35], 0);
    let dry = call(dry_run());
    let mut bodies = vec![
        ("parse_error", "{".to_owned()),
        ("invalid_request", "{}".to_owned()),
        ("invalid_request", Value::from(vec![dry.clone(); 101]).to_string()),
        ("method_not_found", r#"{ "jsonrpc": "2.0", "id": 1, "method": "job.cleanup" }"#.to_owned()),
        ("invalid_params", ask(json!([]))),
        ("tag_outside_guard", ask(json!({ "tags": ["hero"] }))),
        ("plan_changed", ask(json!({ "tags": ["codescaler"], "expect_plan": other_set }))),
        ("plan_changed", ask(json!({ "tags": ["codescaler"], "limit": 1, "expect_plan": plan }))),
    ];
    let with_null = |param: &str| {
        let mut params = json!({ "tags": ["codescaler"], "dry_run": true });
        params[param] = Value::Null;
        params
    };
    bodies.push(("invalid_params", ask(with_null("tags"))));
    for (kind, body) in bodies {
        let error = &server.post(body.as_bytes()).json()["error"];
        assert_eq!(error["data"]["kind"], kind, "{body}");
        assert!(data.is_valid(&error["data"]), "{error}");
        let same = |other: &Value| {
            let word = |word: &str| other["data"][word] == error["data"][word];
            other["code"] == error["code"] && word("kind") && word("reason")
        };
        assert!(documented.iter().any(same), "{error}");
    }
    // A param that is null counts as absent.
    for param in params(&document["methods"][0]).keys().filter(|param| *param != "tags" && *param != "dry_run") {
        let answer = server.call("job.cleanup_by_tag", &with_null(param));
        assert_eq!(answer["result"]["jobs_planned"], 3, "{param}");
    }
    let batch = server.post(Value::from(vec![dry; 100]).to_string().as_bytes()).json();
    assert_eq!(batch.as_array().unwrap().len(), 100);
}

#[test]
fn the_examples_hold_on_the_running_binary() {
    replay(openrpc::HERO_PROC, |sample, call| call(&sample.serve()));
    replay(openrpc::CODESCALERS, |sample, call| {
        let hero_proc = Server::serve(&sample.path, &sample.file("hero_proc.sock"));
        call(&sample.gateway(&hero_proc));
    });
}

/// Each method's examples in turn, on a store of its own: one that expects a plan is given that of the example before.
fn replay(text: &str, serve: impl Fn(&Sample, &dyn Fn(&Server))) {
    for method in document(text)["methods"].as_array().unwrap() {
        serve(&Sample::new(), &|server| replay_method(server, method));
    }
}

fn replay_method(server: &Server, method: &Value) {
    let mut plan = Value::Null;
    for example in method["examples"].as_array().into_iter().flatten() {
        let mut params = Map::new();
        for param in example["params"].as_array().unwrap() {
            params.insert(param["name"].as_str().unwrap().to_owned(), param["value"].clone());
        }
        if let Some(shown) = params.get("expect_plan") {
            assert!(shown.as_str().unwrap().parse::<PlanToken>().is_ok(), "{shown}");
            params.insert("expect_plan".to_owned(), plan.clone());
        }
        let mut answer = server.call(method["name"].as_str().unwrap(), &Value::Object(params));
        plan = answer["result"]["plan"].clone();
        let expected = &example["result"]["value"];
        align(&mut answer["result"], expected);
        assert_eq!(&answer["result"], expected, "{}", example["name"]);
    }
}

/// What is different in each run: moments, durations, the plan of a moment, the sizes of files.
const VARIES: &[&str] = &[
    "cutoff_ms",
    "plan",
    "duration_ms",
    "lock_ms",
    "file_bytes",
    "wal_bytes",
    "free_bytes",
    "oldest_ms",
    "newest_ms",
    "day_ms",
    "file_bytes_before",
    "file_bytes_after",
    "free_bytes_before",
    "wal_bytes_after",
    "temp_needed_bytes",
    "temp_free_bytes",
    "store_needed_bytes",
    "store_free_bytes",
    "expected_lock_ms",
];

/// Gives `result` what `expected` has of that, where both are of one type.
pub(crate) fn align(result: &mut Value, expected: &Value) {
    match (result, expected) {
        (Value::Object(result), Value::Object(expected)) => {
            for (name, expected) in expected {
                let Some(result) = result.get_mut(name) else { continue };
                if VARIES.contains(&name.as_str()) && discriminant(result) == discriminant(expected) {
                    let is_plan = |plan: &Value| plan.as_str().is_none_or(|plan| plan.parse::<PlanToken>().is_ok());
                    assert!(is_plan(result) && is_plan(expected), "{expected}");
                    *result = expected.clone();
                } else {
                    align(result, expected);
                }
            }
        }
        (Value::Array(result), Value::Array(expected)) => {
            result.iter_mut().zip(expected).for_each(|(result, expected)| align(result, expected));
        }
        _ => {}
    }
}

/// The gateway takes what its document names, and what it passes on is documented as hero_proc's side has it.
#[test]
fn the_gateways_params_are_its_own_and_hero_procs() {
    let [hero_proc, codescalers] =
        [openrpc::HERO_PROC, openrpc::CODESCALERS].map(|text| params(&document(text)["methods"][0]));
    // Both sides take `keep_by`, each in words of its own.
    let own = ["actor", "except_actor", "except_kind", "except_target", "keep_by", "kind", "target"];
    for (name, param) in &codescalers {
        assert_eq!(param["required"], false, "{name}");
        assert!(own.contains(&name.as_str()) || hero_proc[name] == *param, "{name}");
    }
    let passed_on =
        hero_proc.keys().map(String::as_str).filter(|name| !["except_tags", "keep_by", "tags"].contains(name));
    let mut names: Vec<&str> = passed_on.chain(own).collect();
    names.sort_unstable();
    assert_eq!(codescalers.keys().map(String::as_str).collect::<Vec<_>>(), names);
}

#[test]
fn they_are_served_as_they_are() {
    let sample = Sample::new();
    let server = sample.serve();
    assert_eq!(server.get("/openrpc.json").body, openrpc::HERO_PROC.as_bytes());
    assert_eq!(server.call("rpc.discover", &json!({}))["result"], document(openrpc::HERO_PROC));
    let gateway = sample.gateway(&server);
    assert_eq!(gateway.get("/openrpc.json").body, openrpc::CODESCALERS.as_bytes());
    assert_eq!(gateway.call("rpc.discover", &json!({}))["result"], document(openrpc::CODESCALERS));
    assert_eq!(gateway.get("/health").json()["service"], "hero_codescalers_cleanup");
}

/// A host's document of 90 methods in ten shapes, which uses everything that OpenRPC has, and the names of two of our
/// schemas for something else.
fn host() -> Value {
    const NAMESPACES: [&str; 9] = ["job", "action", "service", "run", "secret", "schedule", "log", "system", "context"];
    let mut methods = Vec::new();
    let mut schemas = json!({
        "Report": { "type": "string" },
        "CleanupKeptAction": { "type": "integer" },
        "Id": { "title": "Id", "type": "integer", "minimum": 1 },
        "Page": {
            "type": "object",
            "properties": { "items": { "items": true }, "next": { "$ref": "#/components/schemas/Id" } },
        },
    });
    for namespace in NAMESPACES {
        let own = format!("#/components/schemas/{namespace}");
        schemas[namespace] = json!({
            "type": "object",
            "properties": { "id": { "$ref": "#/components/schemas/Id" }, "parent": { "$ref": own } },
            "patternProperties": { "^x-": true },
            "required": ["id"],
        });
        let name = |verb: &str| format!("{namespace}.{verb}");
        let by_id = json!([{ "$ref": "#/components/contentDescriptors/Id" }]);
        let one = json!({ "name": namespace, "schema": { "$ref": own } });
        methods.extend([
            json!({
                "name": name("create"), "summary": "Creates one", "paramStructure": "by-name",
                "params": [{ "name": "spec", "required": true, "schema": { "$ref": own } }],
                "result": { "$ref": "#/components/contentDescriptors/Id" },
                "errors": [{ "$ref": "#/components/errors/Exists" }],
            }),
            json!({
                "name": name("get"), "params": by_id, "result": one,
                "tags": [{ "$ref": "#/components/tags/read" }, { "name": namespace, "description": "theirs" }],
                "errors": [{ "$ref": "#/components/errors/NotFound" }],
                "examples": [{
                    "name": "the first",
                    "params": [{ "$ref": "#/components/examples/First" }],
                    "result": { "name": namespace, "value": { "id": 1, "parent": { "id": 2 } } },
                }],
            }),
            json!({
                "name": name("list"), "tags": [{ "$ref": "#/components/tags/read" }],
                "params": [
                    { "name": "filter", "schema": { "oneOf": [{ "type": "null" }, { "additionalProperties": true }] } },
                    { "name": "limit", "summary": "how many", "schema": { "default": 100, "exclusiveMinimum": 0 } },
                ],
                "result": { "name": "page", "schema": { "allOf": [
                    { "$ref": "#/components/schemas/Page" },
                    { "properties": { "items": { "items": { "$ref": own } } } },
                ] } },
            }),
            json!({
                "name": name("update"), "paramStructure": "either", "deprecated": namespace == "secret",
                "params": [
                    { "$ref": "#/components/contentDescriptors/Id" },
                    { "name": "change", "deprecated": true, "schema": true },
                ],
                "result": one, "x-since": { "version": "0.3", "$comment": [1, 2] },
            }),
            json!({
                "name": name("delete"), "params": by_id, "result": { "name": "nothing", "schema": { "type": "null" } },
                "errors": [{ "code": -32001, "message": "it is in use", "data": { "kind": "in_use", "by": null } }],
            }),
            json!({
                "name": name("watch"), "params": [], "result": { "name": "events", "schema": {} },
                "servers": [{ "url": "http://localhost/events", "variables": { "topic": { "default": namespace } } }],
                "x-streaming": true,
            }),
            json!({ "name": name("count"), "params": [], "result": { "name": "n", "schema": { "type": "integer" } } }),
            json!({
                "name": name("export"), "params": by_id,
                "result": { "name": "file", "schema": { "type": "string", "contentMediaType": "application/json" } },
                "links": [{ "name": "get it", "method": name("get"), "params": { "id": "$params.id" } }],
                "externalDocs": { "url": "https://example.org/export" },
            }),
            json!({
                "name": name("stats"), "description": "What a report is here.", "params": [],
                "result": { "name": "report", "schema": { "$ref": "#/components/schemas/Report" } },
            }),
            json!({
                "name": name("describe"), "params": [{ "name": "of", "schema": { "enum": ["schema", 1, null] } }],
                "result": { "name": "kept", "schema": { "anyOf": [
                    { "$ref": "#/components/schemas/CleanupKeptAction" },
                    { "not": { "$ref": own } },
                ] } },
            }),
        ]);
    }
    json!({
        "openrpc": "1.2.6",
        "info": {
            "title": "hero_proc", "version": "0.7.0", "description": "Runs things.", "x-logo": "none",
            "contact": { "name": "them" }, "license": { "name": "Apache-2.0" },
        },
        "servers": [{ "name": "socket", "url": "http://localhost/rpc" }],
        "externalDocs": { "url": "https://example.org" },
        "methods": methods,
        "components": {
            "schemas": schemas,
            "errors": {
                "NotFound": { "code": -32001, "message": "there is none" },
                "Exists": { "code": -32004, "message": "there is one", "data": { "id": 1 } },
            },
            "contentDescriptors": {
                "Id": { "name": "id", "required": true, "schema": { "$ref": "#/components/schemas/Id" } },
            },
            "examples": { "First": { "name": "id", "value": 1 } },
            "tags": { "read": { "name": "read", "x-colour": "green" } },
        },
        "x-generator": ["by", "hand"],
    })
}

/// Every reference in `value`.
fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(array) => array.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn a_host_merges_both_documents_into_its_own() {
    let (mut merged, before) = (host(), host());
    openrpc::merge(&mut merged, openrpc::HERO_PROC).unwrap();
    openrpc::merge(&mut merged, openrpc::CODESCALERS).unwrap();
    assert_openrpc(&before);
    assert_openrpc(&merged);

    // What the host had is as it was.
    let methods = merged["methods"].as_array().unwrap();
    let mut without = merged.clone();
    without["methods"].as_array_mut().unwrap().truncate(90);
    let schemas = without["components"]["schemas"].as_object_mut().unwrap();
    schemas.retain(|name, _| !before["components"]["schemas"][name].is_null());
    assert_eq!(without, before);
    // What was added is what was served, by other names.
    let names: Vec<&Value> = methods[90..].iter().map(|method| &method["name"]).collect();
    assert_eq!(names, [HERO_PROC, CODESCALERS].concat());
    let documents = [openrpc::HERO_PROC, openrpc::CODESCALERS].map(document);
    let own =
        documents.iter().flat_map(|own| own["methods"].as_array().unwrap().iter().map(move |method| (own, method)));
    for (method, (document, own)) in methods[90..].iter().zip(own.filter(|(_, own)| own["name"] != "rpc.discover")) {
        let resolved = |document: &Value, method: &Value| resolve(&method["result"]["schema"], document);
        assert_eq!(resolved(&merged, method), resolved(document, own));
        assert_eq!(method["params"], own["params"]);
        assert_eq!(method["errors"], own["errors"]);
    }
}

/// `value` with the schemas that it refers to in their places.
fn resolve(value: &Value, document: &Value) -> Value {
    match value {
        Value::Object(object) => match object.get("$ref").and_then(Value::as_str) {
            Some(reference) => resolve(document.pointer(&reference[1..]).unwrap(), document),
            None => object.iter().map(|(key, value)| (key.clone(), resolve(value, document))).collect(),
        },
        Value::Array(array) => array.iter().map(|value| resolve(value, document)).collect(),
        _ => value.clone(),
    }
}

/// A host that has a method of the name already, of its own or by an earlier merge, keeps it.
#[test]
fn a_method_that_the_host_has_is_not_replaced() {
    for (text, name) in [(openrpc::HERO_PROC, "job.cleanup_by_tag"), (openrpc::CODESCALERS, "jobs.cleanup")] {
        let mut host = host();
        host["methods"][44]["name"] = name.into();
        let before = host.clone();
        assert_eq!(openrpc::merge(&mut host, text), Err(MergeError::MethodTaken(name.to_owned())));
        assert_eq!(host, before);
    }
}

/// Without a clash, names are as they are served; what can't be merged is refused, and changes nothing.
#[test]
fn what_cannot_be_merged_is_refused() {
    let mut plain = json!({ "openrpc": "1.2.6", "info": { "title": "t", "version": "1" }, "methods": [] });
    openrpc::merge(&mut plain, openrpc::HERO_PROC).unwrap();
    openrpc::merge(&mut plain, openrpc::CODESCALERS).unwrap();
    assert_openrpc(&plain);
    assert_eq!(plain["methods"][0], document(openrpc::HERO_PROC)["methods"][0]);
    assert_eq!(plain["components"]["schemas"].as_object().unwrap().len(), 13);

    let taken = MergeError::MethodTaken("jobs.cleanup".to_owned());
    let before = plain.clone();
    assert_eq!(openrpc::merge(&mut plain, openrpc::CODESCALERS), Err(taken));
    assert_eq!(plain, before);
    for mut host in [
        json!(null),
        json!([]),
        json!({ "methods": {} }),
        json!({ "methods": [], "components": 1 }),
        json!({ "methods": [], "components": { "schemas": [] } }),
    ] {
        let before = host.clone();
        assert_eq!(openrpc::merge(&mut host, openrpc::HERO_PROC), Err(MergeError::Host));
        assert_eq!(host, before);
    }
    for added in ["", "[]", "{}"] {
        assert_eq!(openrpc::merge(&mut plain, added), Err(MergeError::Added), "{added}");
    }
}

/// What the meta-schema of OpenRPC asks of a document, and what it can't say: that names are unique, and that
/// references lead somewhere.
fn assert_openrpc(document: &Value) {
    let problems: Vec<String> =
        meta_schema().iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(problems, [""; 0]);
    let mut names: Vec<&Value> = document["methods"].as_array().unwrap().iter().map(|method| &method["name"]).collect();
    let count = names.len();
    names.sort_unstable_by_key(|name| name.as_str());
    names.dedup();
    assert_eq!(names.len(), count, "names are unique");
    let mut found = Vec::new();
    references(document, &mut found);
    for reference in found {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
    }
}

fn meta_schema() -> jsonschema::Validator {
    jsonschema::draft7::new(&document(include_str!("openrpc_meta_schema.json"))).unwrap()
}

/// The meta-schema is whole: it sees what is wrong, down to the schemas of params.
#[test]
fn what_is_no_openrpc_is_seen() {
    let meta = meta_schema();
    for (pointer, wrong) in [
        ("/openrpc", json!("9.9.9")),
        ("/info", json!({ "title": "without a version" })),
        ("/methods/0/params/0", json!({ "name": "without a schema" })),
        ("/methods/0/params/0/schema/type", json!("strnig")),
        ("/methods/0/errors/0/code", json!("-32602")),
        ("/components/schemas/Report/required", json!("all")),
    ] {
        let mut document = document(openrpc::HERO_PROC);
        assert!(meta.is_valid(&document));
        *document.pointer_mut(pointer).unwrap() = wrong;
        assert!(!meta.is_valid(&document), "{pointer}");
    }
}
