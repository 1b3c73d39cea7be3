-- A log of llm 0.19 to 0.26: tokens have columns.
CREATE TABLE _llm_migrations (name TEXT PRIMARY KEY, applied_at TEXT);
INSERT INTO _llm_migrations VALUES ('m013_usage', '2025-01-01 09:00:00.000000');
CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT,
    prompt_json TEXT, options_json TEXT, response TEXT, response_json TEXT, conversation_id TEXT,
    duration_ms INTEGER, datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER,
    token_details TEXT);
INSERT INTO responses VALUES
    ('01openai', 'gpt-4o', 'hello', 'be kind', '{}', '{}', 'hi',
     '{"object":"chat.completion.chunk","model":"gpt-4o-2024-08-06"}', 'c',
     900, '2025-01-01T09:00:00.000000+00:00', 120, 30,
     '{"prompt_tokens_details":{"cached_tokens":100},'
     || '"completion_tokens_details":{"reasoning_tokens":10}}'),
    ('01anthropic', 'claude-sonnet', 'hello', NULL, '{}', '{}', 'hi', '{"model":"claude-sonnet-4"}',
     'c', 1200, '2025-01-01T10:01:00.000000+01:00', 10, 30,
     '{"cache_creation_input_tokens":20,"cache_read_input_tokens":70}'),
    ('01gemini-old', 'gemini-flash', 'hello', NULL, '{}', '{}', 'hi', '{}', 'c',
     1300, '2025-01-01T09:02:00+00:00', 15, 40, '{"thoughtsTokenCount":60}'),
    ('01gemini', 'gemini-flash', 'hello', NULL, '{}', '{}', 'hi', '{}', 'c',
     1300, '2025-01-01T09:03:00+00:00', 15, 100,
     '{"candidatesTokenCount":40,"thoughtsTokenCount":60,"cachedContentTokenCount":5}'),
    ('01unknown', 'gpt-4o', 'hello', NULL, '{}', '{}', 'hi', NULL, 'c',
     900, '2025-01-01T09:04:00+00:00', NULL, NULL, NULL),
    ('01untimed', 'gpt-4o', 'hello', NULL, '{}', '{}', 'hi', NULL, 'c',
     NULL, '2025-01-01T09:05:00+00:00', 12, 3, NULL);
