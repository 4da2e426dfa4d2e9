//! The judge `http`, against a server that fails in every way that servers do.

use std::time::Duration;

use futures::future::join_all;
use isr_api::{ComponentError, JudgeCase, Verdict};
use tokio::time::Instant;

use isr_testing::ScriptedPolicy;
use isr_testing::fixtures::case;

use crate::server::{Act, Server};
use crate::support::{judge, judged};

/// A variable that every test run has: its value is the key of these tests. (Setting one is not safe among
/// threads.)
const KEY_VARIABLE: &str = "CARGO_PKG_NAME";

fn key() -> String {
    std::env::var(KEY_VARIABLE).unwrap()
}

/// A judge's section, with short waits.
fn section(server: &Server, rest: &str) -> String {
    let base_url = &server.base_url;
    format!(
        "type = 'http'\nbase_url = '{base_url}'\nmodel = 'm'\nbackoff_s = 0.001\ntimeout_s = 5.0\n{rest}"
    )
}

fn red_and_blue() -> JudgeCase {
    case("it is red.", "it is blue.")
}

async fn ask(server: &Server, rest: &str, case: &JudgeCase) -> Result<Verdict, ComponentError> {
    judged(&ScriptedPolicy::saying(""), &judge(&section(server, rest)), case).await
}

/// A server that does these things in turn, and then judges.
async fn server<const N: usize>(acts: [Act; N]) -> Server {
    Server::start(move |index| acts.get(index).cloned().unwrap_or(Act::Judge)).await
}

#[tokio::test]
async fn both_orders_are_asked_with_the_key_and_nothing_else() {
    let server = server([]).await;
    let rest = format!("api_key_env = '{KEY_VARIABLE}'\nsystem = 'Be fair.'\nextra = {{ top_k = 3 }}");
    let verdict = ask(&server, &rest, &red_and_blue()).await.unwrap();
    assert_eq!((verdict.p_first, verdict.consistent, verdict.votes.len()), (1.0, true, 2));
    let received = server.received();
    assert_eq!(received.len(), 2);
    for request in &received {
        assert_eq!(request.line, "POST /v1/chat/completions HTTP/1.1");
        assert_eq!(request.headers["authorization"], format!("Bearer {}", key()));
        assert_eq!(request.headers["content-type"], "application/json");
        assert!(!request.body.to_string().contains(&key()));
        assert_eq!(request.body["messages"][0]["content"], "Be fair.");
        assert_eq!(request.body["top_k"], 3);
        assert_eq!(request.body["temperature"], 0.0);
    }
    assert_ne!(received[0].text(), received[1].text());
    assert_ne!(received[0].body["seed"], received[1].body["seed"], "each order has its own draw");
    let given = ask(&server, "orders = 'given'", &red_and_blue()).await.unwrap();
    assert_eq!((given.votes.len(), server.received().len()), (1, 3));
    assert!(!server.received()[2].headers.contains_key("authorization"));
}

#[tokio::test]
async fn frames_are_pictures_before_the_text() {
    let server = server([]).await;
    ask(&server, "orders = 'given'\nframes = { count = 8 }", &red_and_blue()).await.unwrap();
    let content = server.received()[0].body["messages"][0]["content"].clone();
    let kinds: Vec<_> = content.as_array().unwrap().iter().map(|part| part["type"].clone()).collect();
    assert_eq!(kinds, ["image_url", "image_url", "text"], "the clip has two frames");
    let url = content[0]["image_url"]["url"].as_str().unwrap();
    assert!(url.starts_with("data:image/png;base64,iVBOR"), "{url}");
}

#[tokio::test]
async fn each_fault_is_tried_again_and_the_verdict_comes_once() {
    let faults = [
        Act::Status(500, "", "{}"),
        Act::Status(502, "", "<html>bad gateway</html>"),
        Act::Status(408, "", ""),
        Act::Status(429, "", r#"{"error": {"message": "slow down"}}"#),
        Act::Status(200, "", "<html>welcome</html>"),
        Act::Status(200, "", r#"{"object": "error", "message": "busy"}"#),
        Act::Status(200, "", r#"{"choices": []}"#),
        Act::Status(200, "", ""),
        Act::Truncate,
        Act::Close,
    ];
    for fault in faults {
        let script = fault.clone();
        let server = Server::start(move |index| if index < 2 { script.clone() } else { Act::Judge }).await;
        let verdict = ask(&server, "orders = 'given'", &red_and_blue()).await.unwrap();
        assert_eq!(verdict.p_first, 1.0, "{fault:?}");
        let received = server.received();
        assert_eq!((received.len(), server.judged()), (3, 1), "{fault:?}");
        assert_eq!(received[0].body, received[2].body, "{fault:?}");
    }
}

#[tokio::test]
async fn silence_and_slow_streams_end_at_the_time_out() {
    for fault in [Act::Hang, Act::Dribble(Duration::from_millis(20))] {
        let script = fault.clone();
        let server = Server::start(move |index| if index == 0 { script.clone() } else { Act::Judge }).await;
        let start = Instant::now();
        let hasty = section(&server, "orders = 'given'").replace("timeout_s = 5.0", "timeout_s = 0.3");
        let (fake, judge, case) = (ScriptedPolicy::saying(""), judge(&hasty), red_and_blue());
        let verdict = tokio::time::timeout(Duration::from_secs(9), judged(&fake, &judge, &case)).await;
        assert_eq!(verdict.unwrap().unwrap().p_first, 1.0, "{fault:?}");
        assert!(start.elapsed() >= Duration::from_millis(300), "{fault:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "{fault:?}");
        assert_eq!(server.received().len(), 2, "{fault:?}");
    }
    // One that is slow and ends in time is a reply like any other.
    let server = server([Act::Dribble(Duration::from_millis(1))]).await;
    assert_eq!(ask(&server, "orders = 'given'", &red_and_blue()).await.unwrap().p_first, 1.0);
    assert_eq!((server.received().len(), server.judged()), (1, 1));
}

#[tokio::test]
async fn retry_after_holds_all_requests_back() {
    let server = server([Act::Status(429, "Retry-After: 1\r\n", "")]).await;
    let judge = judge(&section(&server, "orders = 'given'\nconcurrency = 1"));
    let cases = [red_and_blue(), case("it is red. yes", "it is blue. yes"), case("red. 3", "blue. 3")];
    let fake = ScriptedPolicy::saying("");
    for verdict in join_all(cases.iter().map(|case| judged(&fake, &judge, case))).await {
        assert_eq!(verdict.unwrap().p_first, 1.0);
    }
    let received = server.received();
    assert_eq!((received.len(), server.judged()), (4, 3));
    for later in &received[1..] {
        let waited = later.at - received[0].at;
        assert!(waited >= Duration::from_millis(990), "{waited:?}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_no_wait_is_not_hammered() {
    let server = server([Act::Status(429, "Retry-After: 0\r\n", "")]).await;
    let patient = section(&server, "orders = 'given'").replace("backoff_s = 0.001", "backoff_s = 0.4");
    judged(&ScriptedPolicy::saying(""), &judge(&patient), &red_and_blue()).await.unwrap();
    let received = server.received();
    assert!(received[1].at - received[0].at >= Duration::from_millis(190), "half of backoff_s at least");
}

#[tokio::test]
async fn a_server_that_wants_too_long_a_rest_stops_the_run() {
    let server = server([Act::Status(503, "Retry-After: 3600\r\n", "")]).await;
    let error = ask(&server, "orders = 'given'\nmax_wait_s = 2.0", &red_and_blue()).await.unwrap_err();
    assert!(matches!(error, ComponentError::Failed(_)));
    insta::assert_snapshot!(error, @"the server asks to wait 3600 s, more than max_wait_s (2); continue the run later, or raise max_wait_s");
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn what_does_not_pass_stops_the_run_after_its_retries() {
    let server = Server::start(|_| Act::Status(500, "", "out of\n memory")).await;
    let error = ask(&server, "orders = 'given'\nretries = 3", &red_and_blue()).await.unwrap_err();
    assert!(matches!(error, ComponentError::Failed(_)));
    let text = error.to_string();
    assert!(text.starts_with("no reply after 4 requests: the server said 500"), "{text}");
    assert!(text.contains("out of memory"), "{text}");
    assert_eq!(server.received().len(), 4);
}

#[tokio::test]
async fn nobody_at_home_is_a_failure_and_no_verdict() {
    let mut gone = server([]).await;
    gone.base_url = "http://127.0.0.1:1/v1".to_owned();
    let error = ask(&gone, "orders = 'given'\nretries = 1", &red_and_blue()).await.unwrap_err();
    assert!(matches!(error, ComponentError::Failed(_)));
    assert!(error.to_string().starts_with("no reply after 2 requests:"), "{error}");
}

#[tokio::test]
async fn refusals_are_not_repeated_and_do_not_show_the_key() {
    // The key is this package's name.
    let body = r#"{"error": "incorrect key isr-judges provided"}"#;
    let rest = format!("orders = 'given'\napi_key_env = '{KEY_VARIABLE}'");
    for (status, is_the_case) in
        [(400, true), (413, true), (422, true), (401, false), (404, false), (301, false)]
    {
        let server = Server::start(move |_| Act::Status(status, "", body)).await;
        let error = ask(&server, &rest, &red_and_blue()).await.unwrap_err();
        assert_eq!(matches!(error, ComponentError::BadInput(_)), is_the_case, "{status}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("the server said {status}")), "{text}");
        assert!(text.contains("incorrect key *** provided") && !text.contains(&key()), "{text}");
        assert_eq!(server.received().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn an_unreadable_reply_is_asked_again_with_another_seed_and_some_heat() {
    let server = server([Act::Say("Hm.")]).await;
    let verdict = ask(&server, "orders = 'given'\nretry_temperature = 0.9", &red_and_blue()).await.unwrap();
    assert_eq!(verdict.p_first, 1.0);
    let received = server.received();
    assert_eq!(
        (&received[0].body["temperature"], &received[1].body["temperature"]),
        (&0.0.into(), &0.9.into())
    );
    assert_ne!(received[0].body["seed"], received[1].body["seed"]);

    let lost = Server::start(|_| Act::Say("both are fine")).await;
    let error = ask(&lost, "orders = 'given'\nattempts = 3", &red_and_blue()).await.unwrap_err();
    assert!(matches!(error, ComponentError::BadInput(_)));
    assert!(error.to_string().contains("no verdict in 3 replies; the last is `both are fine`"), "{error}");
    assert_eq!(lost.received().len(), 3);
}

#[tokio::test]
async fn a_refused_parameter_stops_the_run_with_the_setting_to_change() {
    for (status, body, setting, rest) in [
        (
            400,
            r#"{"error":{"message":"Unsupported value: 'temperature'"}}"#,
            "temperature = \"omit\"",
            "temperature = 'omit'",
        ),
        (
            400,
            r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens"}}"#,
            "max_tokens_key = \"max_completion_tokens\"",
            "max_tokens_key = 'max_completion_tokens'",
        ),
        (
            422,
            r#"{"detail":[{"loc":["body","seed"],"msg":"Extra inputs are not permitted"}]}"#,
            "send_seed = false",
            "send_seed = false",
        ),
        (400, r#"{"error":"unknown field top_k"}"#, "extra.top_k", "extra = {}"),
    ] {
        let refusing = Server::start(move |_| Act::Status(status, "", body)).await;
        let error =
            ask(&refusing, "orders = 'given'\nextra = { top_k = 3 }", &red_and_blue()).await.unwrap_err();
        assert!(matches!(error, ComponentError::Failed(_)), "{error}");
        assert!(error.to_string().contains(setting), "{error}");
        assert_eq!(refusing.received().len(), 1);
        let server = server([Act::Say("Hm.")]).await;
        ask(&server, &format!("orders = 'given'\n{rest}"), &red_and_blue()).await.unwrap();
        let key = setting.split([' ', '.']).next().unwrap();
        for request in server.received() {
            let body = &request.body;
            match key {
                "temperature" => assert!(body.get("temperature").is_none(), "{body}"),
                "max_tokens_key" => {
                    assert_eq!(
                        (body.get("max_tokens"), &body["max_completion_tokens"]),
                        (None, &32.into())
                    );
                }
                "send_seed" => assert!(body.get("seed").is_none(), "{body}"),
                _ => assert!(body.get("top_k").is_none(), "{body}"),
            }
        }
    }
}

/// A completion with this choice.
fn choice(choice: &str) -> &'static str {
    Box::leak(format!(r#"{{"choices": [{choice}]}}"#).into_boxed_str())
}

#[tokio::test]
async fn a_judge_that_reasons_beyond_its_limit_is_asked_once_and_says_what_to_raise() {
    for message in [
        r#"{"content": null, "reasoning_content": "Let me see: A, or B"}"#,
        r#"{"content": "<think>A is better. Or B"}"#,
    ] {
        let body = choice(&format!(r#"{{"finish_reason": "length", "message": {message}}}"#));
        let server = Server::start(move |_| Act::Status(200, "", body)).await;
        let error = ask(&server, "orders = 'given'\nattempts = 5", &red_and_blue()).await.unwrap_err();
        assert!(matches!(error, ComponentError::BadInput(_)));
        assert_eq!(error.to_string(), "the reply was cut at max_tokens = 32 while reasoning; raise it");
        assert_eq!(server.received().len(), 1);
    }
}

#[tokio::test]
async fn reasoning_is_never_read_as_a_verdict_and_parts_are_joined() {
    for message in [
        r#"{"content": "<think>A, surely.</think>\n\nB"}"#,
        r#"{"content": "A is what I thought</think>B", "reasoning_content": null}"#,
        r#"{"content": [{"type": "thinking", "text": "A"}, {"type": "text", "text": "The better answer "}, {"type": "text", "text": "is B"}]}"#,
    ] {
        let body = choice(&format!(r#"{{"finish_reason": "stop", "message": {message}}}"#));
        let server = Server::start(move |_| Act::Status(200, "", body)).await;
        let verdict = ask(&server, "orders = 'given'", &red_and_blue()).await.unwrap();
        assert_eq!(verdict.p_first, 0.0, "{message}");
    }
}

#[tokio::test]
async fn a_server_that_answers_with_the_key_gets_it_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let rest = format!(
        "orders = 'given'\nretries = 0\nattempts = 1\napi_key_env = '{KEY_VARIABLE}'\ncache_dir = '{}'",
        dir.path().display()
    );
    let said = choice(r#"{"message": {"content": "your key is isr-judges"}}"#);
    for body in [said, r#"{"choices": "isr-judges"}"#] {
        let server = Server::start(move |_| Act::Status(200, "", body)).await;
        let error = ask(&server, &rest, &red_and_blue()).await.unwrap_err().to_string();
        assert!(error.contains("***") && !error.contains(&key()), "{error}");
    }
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        for file in std::fs::read_dir(entry.unwrap().path()).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(!text.contains(&key()), "{text}");
        }
    }
}

/// Forty cases, told apart by their texts; the first answer of each is the better one.
fn many() -> Vec<JudgeCase> {
    let numbered = |index: u64| {
        let mut case = case(&format!("{index} is red."), &format!("{index} is blue."));
        case.seed = index;
        case
    };
    (0..40).map(numbered).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_all_faults_at_once_no_verdict_is_lost_or_had_twice() {
    let acts = [
        Act::Judge,
        Act::Status(429, "Retry-After: 0\r\n", ""),
        Act::Judge,
        Act::Status(500, "", "oops"),
        Act::Truncate,
        Act::Judge,
        Act::Status(200, "", "not json"),
        Act::Close,
        Act::Status(200, "", "{}"),
        Act::Judge,
    ];
    let script = acts.clone();
    let server = Server::start(move |index| script[index * 7 % script.len()].clone()).await;
    let judge = judge(&section(&server, "retries = 60\nconcurrency = 6\nmax_wait_s = 0.01"));
    let (fake, cases) = (ScriptedPolicy::saying(""), many());
    let verdicts = join_all(cases.iter().map(|case| judged(&fake, &judge, case))).await;
    for verdict in verdicts {
        let verdict = verdict.unwrap();
        assert_eq!((verdict.p_first, verdict.consistent, verdict.votes.len()), (1.0, true, 2));
    }
    let received = server.received();
    let good: Vec<_> = received.iter().filter(|request| request.act == Act::Judge).collect();
    assert_eq!((good.len(), server.judged()), (80, 80), "one good reply a vote, and no more");
    let mut bodies: Vec<_> = good.iter().map(|request| request.body.to_string()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 80, "each question was answered once");
    assert!(received.len() > 100, "most requests met a fault");
    assert!(server.most_under_way() <= 6, "{}", server.most_under_way());
}

#[tokio::test]
async fn as_many_are_under_way_as_allowed_and_no_more() {
    // Each takes a few hundred milliseconds.
    let server = Server::start(|_| Act::Dribble(Duration::from_millis(1))).await;
    // On a busy machine a byte takes long; a time-out would leave the server with two requests for one.
    let patient = section(&server, "concurrency = 3").replace("timeout_s = 5.0", "timeout_s = 600.0");
    let judge = judge(&patient);
    let fake = ScriptedPolicy::saying("");
    for verdict in join_all(many()[..5].iter().map(|case| judged(&fake, &judge, case))).await {
        assert_eq!(verdict.unwrap().p_first, 1.0);
    }
    assert_eq!((server.judged(), server.most_under_way()), (10, 3));
}

#[tokio::test]
async fn requests_keep_to_their_number_a_minute() {
    let server = server([]).await;
    let judge = judge(&section(&server, "requests_per_minute = 1200"));
    let fake = ScriptedPolicy::saying("");
    // From before the first request: when the server notices one depends on the machine.
    let started = Instant::now();
    for verdict in join_all(many()[..5].iter().map(|case| judged(&fake, &judge, case))).await {
        verdict.unwrap();
    }
    let received = server.received();
    let took = received[9].at - started;
    assert!(took >= Duration::from_millis(9 * 50 - 20), "ten requests, 50 ms apart: {took:?}");
}

#[tokio::test]
async fn a_budget_of_requests_is_kept_to_the_request() {
    let server = server([Act::Status(500, "", ""), Act::Status(500, "", "")]).await;
    let judge = judge(&section(&server, "orders = 'given'\nbudget = { requests = 7 }"));
    let (fake, cases) = (ScriptedPolicy::saying(""), many());
    let verdicts = join_all(cases.iter().map(|case| judged(&fake, &judge, case))).await;
    assert_eq!(server.received().len(), 7);
    assert_eq!((server.judged(), verdicts.iter().flatten().count()), (5, 5));
    let errors: Vec<_> = verdicts.into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 35);
    assert!(errors.iter().all(|error| matches!(error, ComponentError::Failed(_))));
    insta::assert_snapshot!(errors[0], @"the budget of 7 requests is spent (7); raise budget.requests to go on, the same command continues the run");
}

#[tokio::test]
async fn budgets_of_tokens_and_money_end_after_the_reply_that_reaches_them() {
    // A reply costs 90 prompt tokens and 10 of its own.
    for (rest, requests) in [
        ("budget = { tokens = 300 }", 3),
        ("budget = { tokens = 301 }", 4),
        ("budget = { money = 0.02 }\nprices = { prompt = 100.0, completion = 100.0 }", 2),
    ] {
        let server = server([]).await;
        let judge = judge(&section(&server, &format!("orders = 'given'\n{rest}")));
        let (fake, mut said) = (ScriptedPolicy::saying(""), 0);
        for case in many() {
            match judged(&fake, &judge, &case).await {
                Ok(_) => said += 1,
                Err(error) => assert!(error.to_string().starts_with("the budget of"), "{error}"),
            }
        }
        assert_eq!((server.received().len(), said), (requests, requests), "{rest}");
    }
    let silent =
        Server::start(|_| Act::Status(200, "", r#"{"choices": [{"message": {"content": "A"}}]}"#)).await;
    let error = ask(&silent, "budget = { tokens = 300 }", &red_and_blue()).await.unwrap_err();
    assert!(error.to_string().starts_with("the server's replies have no usage"), "{error}");
}

#[tokio::test]
async fn what_was_paid_for_is_not_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let rest = format!("cache_dir = '{}'\napi_key_env = '{KEY_VARIABLE}'", dir.path().display());
    let server = server([]).await;
    let first = ask(&server, &rest, &red_and_blue()).await.unwrap();
    assert_eq!(ask(&server, &rest, &red_and_blue()).await.unwrap(), first);
    assert_eq!(server.received().len(), 2);
    // The swapped case asks the same two questions.
    assert_eq!(ask(&server, &rest, &red_and_blue().swapped()).await.unwrap().p_first, 0.0);
    assert_eq!(server.received().len(), 2);
    let mut other = red_and_blue();
    other.seed = 12;
    ask(&server, &rest, &other).await.unwrap();
    assert_eq!(server.received().len(), 4, "another seed is another question");
    ask(&server, &format!("{rest}\nsend_seed = false"), &other).await.unwrap();
    ask(&server, &format!("{rest}\nsend_seed = false"), &red_and_blue()).await.unwrap();
    assert_eq!(server.received().len(), 8, "also where the server is not told");

    let mut files = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        for file in std::fs::read_dir(entry.unwrap().path()).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(!text.contains(&key()) && !text.contains("Bearer"), "{text}");
            files += 1;
        }
    }
    assert_eq!(files, 8);
}

#[tokio::test]
async fn the_order_that_went_well_is_kept_when_the_other_fails() {
    let dir = tempfile::tempdir().unwrap();
    let rest = format!("cache_dir = '{}'\nretries = 0\nconcurrency = 1", dir.path().display());
    let server = server([Act::Status(500, "", "")]).await;
    assert!(ask(&server, &rest, &red_and_blue()).await.is_err());
    assert_eq!((server.received().len(), server.judged()), (2, 1));
    assert_eq!(ask(&server, &rest, &red_and_blue()).await.unwrap().p_first, 1.0);
    assert_eq!((server.received().len(), server.judged()), (3, 2), "only the lost order is asked again");
}
