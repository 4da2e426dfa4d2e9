//! The config of the judge `http`: ranges, and secrets that are not to be repeated.

use isr_api::BuildContext;

use crate::support::{parse, refusal};

#[test]
fn the_key_must_be_there_when_the_judge_is_built() {
    let base = "type = 'http'\nbase_url = 'http://localhost/v1'\nmodel = 'm'\n";
    let config = parse(&format!("{base}api_key_env = 'ISR_JUDGES_NO_SUCH_KEY'")).unwrap();
    config.validate().unwrap();
    let error = config.build(&BuildContext::default()).err().unwrap().to_string();
    insta::assert_snapshot!(error, @"environment variable ISR_JUDGES_NO_SUCH_KEY is not set; set it to the key, or leave out api_key_env");
    let stored = format!("{config:?}{}", serde_json::to_string(&config).unwrap());
    assert!(stored.contains("ISR_JUDGES_NO_SUCH_KEY"));
}

#[test]
fn settings_out_of_range_are_named_and_secrets_are_not_repeated() {
    let base = "type = 'http'\nmodel = 'm'\nbase_url = ";
    for (rest, message) in [
        ("'ftp://a'", "base_url must begin with http:// or https://"),
        (
            "'https://user:hunter2@a/v1'",
            "base_url has a user, password or query; put the key into an environment variable, and its name \
             into api_key_env",
        ),
        (
            "'https://a/v1'\napi_key_env = 'sk-hunter2'",
            "api_key_env must be the name of an environment variable (capitals, digits, _), not a key",
        ),
        ("'https://a'\nconcurrency = 0", "concurrency is 0; it must be at least 1"),
        ("'https://a'\ntimeout_s = 0.0", "timeout_s is 0; it must be in [0.001, 86400]"),
        ("'https://a'\nbackoff_s = 9.0\nmax_wait_s = 8.0", "max_wait_s is 8; it must be in [9, 86400]"),
        (
            "'https://a'\nrequests_per_minute = 0.0",
            "requests_per_minute is 0; it must be in [0.001, 1000000]",
        ),
        ("'https://a'\nattempts = 0", "attempts is 0; it must be at least 1"),
        ("'https://a'\nframes = { count = 0 }", "frames.count is 0; it must be at least 1"),
        (
            "'https://a'\nextra = { seed = 1 }",
            "extra.seed is written by the judge itself; use its own setting",
        ),
        (
            "'https://a'\nbudget = { money = 1.0 }",
            "budget.money needs prices above 0; what a token costs only you know",
        ),
        ("'https://a'\ntemperature = -0.5", "temperature is -0.5; it must be 0 or more"),
    ] {
        assert_eq!(refusal(&format!("{base}{rest}")), message);
    }
    assert!(refusal(&format!("{base}'no address'")).starts_with("base_url: "));
}
