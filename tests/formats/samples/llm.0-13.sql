-- A log of llm 0.13: tokens lie in the answer alone, and times have no zone.
CREATE TABLE _llm_migrations (name TEXT PRIMARY KEY, applied_at TEXT);
INSERT INTO _llm_migrations VALUES ('m012_attachments_tables', '2024-03-01 09:00:00.000000');
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
INSERT INTO conversations VALUES ('01conversation', 'a greeting', 'gpt-4o-mini');
CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT,
    prompt_json TEXT, options_json TEXT, response TEXT, response_json TEXT,
    conversation_id TEXT REFERENCES conversations(id), duration_ms INTEGER, datetime_utc TEXT);
INSERT INTO responses VALUES
    ('01whole', 'gpt-4o-mini', 'hello', 'be kind', '{"messages":[{"content":"hello"}]}', '{}',
     'hi', '{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-mini-2024-07-18",'
     || '"usage":{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25}}',
     '01conversation', 812, '2024-03-01T09:00:00.250000'),
    ('01stream', 'gpt-4o-mini', 'hello', NULL, '{}', '{}', 'hi',
     '{"id":"chatcmpl-2","object":"chat.completion.chunk","model":"gpt-4o-mini-2024-07-18"}',
     '01conversation', 700, '2024-03-01T09:01:00.500000'),
    ('01claude', 'claude-3-haiku', 'hello', NULL, '{}', '{}', 'hi',
     '{"id":"msg_1","type":"message","model":"claude-3-haiku-20240307","usage":{"input_tokens":10,'
     || '"cache_read_input_tokens":90,"output_tokens":7}}',
     '01conversation', 950, '2024-03-01T09:02:00'),
    ('01llama', 'llama3', 'hello', NULL, '{}', '{}', 'hi',
     '{"model":"llama3:latest","done":true,"total_duration":1900000000,"prompt_eval_count":30,'
     || '"eval_count":12}',
     '01conversation', 2100, '2024-03-01T09:03:00'),
    ('01broken', 'gpt-4o-mini', 'hello', NULL, '{}', '{}', 'hi', '{"usage":',
     '01conversation', 640, '2024-03-01T09:04:00');
