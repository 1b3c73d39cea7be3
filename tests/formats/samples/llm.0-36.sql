-- A log that llm 0.27 began, and 0.36 went on with.
CREATE TABLE _llm_migrations (name TEXT PRIMARY KEY, applied_at TEXT);
INSERT INTO _llm_migrations VALUES ('m023_message_store', '2026-01-01 09:00:00.000000');
CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT,
    prompt_json TEXT, options_json TEXT, response TEXT, response_json TEXT, conversation_id TEXT,
    duration_ms INTEGER, datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER,
    token_details TEXT, schema_id TEXT, resolved_model TEXT, reasoning TEXT);
INSERT INTO responses VALUES
    ('01old', 'gpt-4o', 'hello', NULL, '{}', '{}', 'hi', '{"model":"gpt-4o-2024-08-06"}', 'c',
     500, '2025-12-01T09:00:00.000000+00:00', 11, 7, NULL, NULL, 'gpt-4o-2024-11-20', NULL),
    ('01both', 'gpt-4o', 'hello', NULL, '{}', '{}', 'hi', NULL, 'c',
     510, '2025-12-02T09:00:00.000000+00:00', 12, 8, NULL, NULL, NULL, NULL);
CREATE TABLE threads (id TEXT PRIMARY KEY, name TEXT, tip_message_hash TEXT, forked_from TEXT,
    datetime_utc TEXT);
INSERT INTO threads VALUES ('01thread', 'a greeting', 'h', NULL, '2026-01-01 09:00:00');
CREATE TABLE turns (id TEXT PRIMARY KEY, thread_id TEXT REFERENCES threads(id),
    parent_message_hash TEXT, tip_message_hash TEXT, model TEXT, resolved_model TEXT,
    options_json TEXT, schema_id TEXT, input_tokens INTEGER, output_tokens INTEGER,
    token_details TEXT, duration_ms INTEGER, datetime_utc TEXT, response_json TEXT);
INSERT INTO turns VALUES
    ('01both', '01thread', NULL, 'h', 'gpt-4o', NULL, '{}', NULL, 12, 8, NULL, 510,
     '2025-12-02T09:00:00.000000+00:00', NULL),
    ('01new', '01thread', NULL, 'h', 'gpt-5', NULL, '{}', NULL, 100, 40,
     '{"input_tokens_details":{"cached_tokens":64},"output_tokens_details":{"reasoning_tokens":32}}',
     2500, '2026-01-02T09:00:00.000000+00:00', '{"model":"gpt-5-2025-08-07"}'),
    ('01unnamed', '01thread', NULL, 'h', NULL, NULL, '{}', NULL, 5, 6, NULL, 400,
     '2026-01-03T09:00:00.000000+00:00', NULL);
