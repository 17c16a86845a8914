use proptest::prelude::*;

use super::*;

fn bucket_of(text: &str, variables: &[(&str, &str)]) -> Result<Bucket, String> {
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    S3Address::parse(text)?.bucket(variable)
}

fn base(text: &str, variables: &[(&str, &str)]) -> String {
    bucket_of(text, variables).unwrap().base_url().to_string()
}

#[test]
fn an_address_says_where_requests_go() {
    let aws = [("AWS_REGION", "eu-west-1")];
    assert_eq!(base("my-bucket", &aws), "https://my-bucket.s3.eu-west-1.amazonaws.com/");
    assert_eq!(base("my-bucket/ci/nix/", &aws), "https://my-bucket.s3.eu-west-1.amazonaws.com/");
    assert_eq!(base("my.bucket", &aws), "https://s3.eu-west-1.amazonaws.com/my.bucket/");
    assert_eq!(base("my-bucket?style=path", &aws), "https://s3.eu-west-1.amazonaws.com/my-bucket/");
    assert_eq!(base("my-bucket?region=cn-north-1", &aws), "https://my-bucket.s3.cn-north-1.amazonaws.com.cn/");
    assert_eq!(base("abc?endpoint=https://s.example.com", &[]), "https://s.example.com/abc/");
    assert_eq!(base("abc?endpoint=https%3A%2F%2Fs.example.com%3A9000", &[]), "https://s.example.com:9000/abc/");
    assert_eq!(base("abc?endpoint=https://s.example.com&style=virtual", &[]), "https://abc.s.example.com/");
    assert_eq!(base("abc", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")]), "http://127.0.0.1:9000/abc/");
    assert_eq!(base("abc?endpoint=http://minio:9000&region=garage", &aws), "http://minio:9000/abc/");
    let region = |text, variables: &[_]| bucket_of(text, variables).unwrap().region().to_owned();
    assert_eq!(region("abc?endpoint=https://r2.example.com&region=auto", &aws), "auto");
    assert_eq!(region("abc?endpoint=https://r2.example.com", &[]), "us-east-1");
}

#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    for (text, says) in [
        ("", "bucket is missing"),
        ("/prefix", "bucket is missing"),
        ("?region=eu-west-1", "bucket is missing"),
        ("ab", "3 to 63"),
        ("My-Bucket", "lower-case"),
        ("-abc", "letter or digit at both ends"),
        ("a..b", "name of a bucket"),
        ("127.0.0.1", "name of a bucket"),
        ("abc:9000/x", "name of a bucket"),
        ("user:secret@abc/x", "AWS_ACCESS_KEY_ID"),
        ("abc/a b", "' ' cannot be in a bucket or prefix. Use letters"),
        ("abc/a\u{a0}b", "cannot be in a bucket or prefix"),
        ("abc/a#b", "cannot be in a bucket or prefix"),
        ("abc?endpoint=https://s.example.com/a b", "Percent-encode the value of `endpoint`"),
        ("abc/../x", "\"..\" cannot be a part of the prefix"),
        ("abc/x/..", "\"..\" cannot be a part"),
        ("abc/./x", "\".\" cannot be a part"),
        ("abc//x", "\"\" cannot be a part"),
        ("abc/%2e%2e/x", "cannot be a part"),
        ("abc/ü", "cannot be a part"),
        ("abc?regoin=eu-west-1", "`regoin` is not known. It takes `endpoint`, `region` and `style`"),
        ("abc?profile=ci", "AWS_SECRET_ACCESS_KEY"),
        ("abc?secret-key=x", "AWS_SECRET_ACCESS_KEY"),
        ("abc?aws_access_key_id=x", "AWS_SECRET_ACCESS_KEY"),
        ("abc?region=a&region=b", "given twice"),
        ("abc?region=", "not a region"),
        ("abc?region=EU", "not a region"),
        ("abc?style=virtual-host", "`path`"),
        ("abc?endpoint=minio.example.com", "https://minio.example.com:9000"),
        ("abc?endpoint=ftp://minio.example.com", "https://minio.example.com:9000"),
        ("abc?endpoint=", "not a URL"),
        ("abc?endpoint=https://u:p@s.example.com", "contains credentials"),
        ("abc?endpoint=https://s.example.com/?x=1", "query or fragment"),
        ("abc?endpoint=http://s.example.com", "Use https"),
        ("abc?endpoint=http://8.8.8.8", "Use https"),
        ("abc?endpoint=http://127.0.0.1&style=virtual", "style=path"),
        ("a.bc?style=virtual", "style=path"),
    ] {
        let error = S3Address::parse(text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
        assert!(!error.contains("p@") && !error.contains("secret@"), "{error}");
    }
    assert!(S3Address::parse(&format!("abc/{}", "x".repeat(400))).unwrap_err().contains("shorter"));
    assert!(bucket_of("abc", &[]).unwrap_err().contains("region=…"));
    assert!(bucket_of("abc", &[("AWS_REGION", "a b")]).unwrap_err().contains("AWS_REGION"));
    assert!(bucket_of("abc", &[("AWS_ENDPOINT_URL", "x")]).unwrap_err().contains("AWS_ENDPOINT_URL"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_what_is_read_is_printed_the_same(text in "[a-c./?=&%:@ -]{0,30}|.*") {
        if let Ok(address) = S3Address::parse(&text) {
            let shown = address.to_string();
            prop_assert_eq!(S3Address::parse(shown.strip_prefix("s3://").unwrap()), Ok(address));
        }
    }
}
