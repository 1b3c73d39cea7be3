-- A database of Phoenix. Columns with token counts are 0 where the span has none.
CREATE TABLE alembic_version (version_num VARCHAR(32));
INSERT INTO alembic_version VALUES ('2f9d1a65945f');
CREATE TABLE span_annotations (id INTEGER PRIMARY KEY, span_rowid INTEGER, name VARCHAR,
    label VARCHAR, explanation VARCHAR);
INSERT INTO span_annotations VALUES (1, 1, 'note', 'good', 'it answers the question');
CREATE TABLE traces (id INTEGER PRIMARY KEY, project_rowid INTEGER NOT NULL, trace_id VARCHAR,
    start_time TIMESTAMP, end_time TIMESTAMP);
INSERT INTO traces VALUES
    (1, 1, '0af7651916cd43dd8448eb211c80319c', '2026-01-01 09:00:00', '2026-01-01 09:00:09'),
    (2, 1, '1bf7651916cd43dd8448eb211c80319c', '2026-01-01 09:01:00', '2026-01-01 09:01:09');
CREATE TABLE spans (id INTEGER PRIMARY KEY, trace_rowid INTEGER NOT NULL, span_id VARCHAR NOT NULL,
    parent_id VARCHAR, name VARCHAR, span_kind VARCHAR, start_time TIMESTAMP, end_time TIMESTAMP,
    attributes JSON, events JSON, status_code VARCHAR, status_message VARCHAR,
    cumulative_error_count INTEGER, cumulative_llm_token_count_prompt INTEGER,
    cumulative_llm_token_count_completion INTEGER, llm_token_count_prompt INTEGER,
    llm_token_count_completion INTEGER);
INSERT INTO spans VALUES
    (1, 1, 'aaaaaaaaaaaaaaa1', NULL, 'agent', 'AGENT', '2026-01-01 09:00:00.000000',
     '2026-01-01 09:00:09.000000', '{"input":{"value":"hello"},"llm":{"token_count":{"prompt":1313,'
     || '"completion":136}},"openinference":{"span":{"kind":"AGENT"}}}', '[]', 'OK', '', 0,
     1313, 136, 1313, 136),
    (2, 1, 'aaaaaaaaaaaaaaa2', 'aaaaaaaaaaaaaaa1', 'outer', 'LLM', '2026-01-01 09:00:01.000000',
     '2026-01-01 09:00:02.000000', '{"llm":{"model_name":"gpt-4o","token_count":{"prompt":11,'
     || '"completion":7}},"openinference":{"span":{"kind":"LLM"}}}', '[]', 'OK', '', 0, 11, 7, 11, 7),
    (3, 1, 'aaaaaaaaaaaaaaa3', 'aaaaaaaaaaaaaaa2', 'ChatCompletion', 'LLM',
     '2026-01-01 09:00:01.100000', '2026-01-01 09:00:01.227153',
     '{"llm":{"model_name":"gpt-4o-2024-08-06","invocation_parameters":"{\"model\": \"gpt-4o\", '
     || '\"stream\": true}","token_count":{"prompt":11,"completion":7,"prompt_details":{'
     || '"cache_read":4},"completion_details":{"reasoning":2}},"input_messages":[{"message":{'
     || '"content":"hello","role":"user"}}]},"output":{"value":"hi"},"openinference":{"span":{'
     || '"kind":"LLM"}}}',
     '[{"name":"First Token Stream Event","timestamp":"2026-01-01T09:00:01.150000+00:00",'
     || '"attributes":{}}]', 'OK', '', 0, 11, 7, 11, 7),
    (4, 1, 'aaaaaaaaaaaaaaa4', 'aaaaaaaaaaaaaaa1', 'Embedding', 'EMBEDDING',
     '2026-01-01 09:00:03.000000', '2026-01-01 09:00:04.000000',
     '{"embedding":{"model_name":"small"},"llm":{"token_count":{"prompt":505}}}', '[]', 'OK', '',
     0, 505, 0, 505, 0),
    (5, 2, 'bbbbbbbbbbbbbbb1', NULL, 'ChatCompletion', 'LLM', '2026-01-01 09:01:00.000000',
     '2026-01-01 09:01:01.000000', '{"llm":{"model_name":"gpt-4o"}}', '[]', 'OK', '', 0, 0, 0, 0, 0),
    (6, 2, 'bbbbbbbbbbbbbbb2', NULL, 'ChatCompletion', 'LLM', '2026-01-01 09:01:02.000000',
     '2026-01-01 09:01:03.000000', '{"llm":{"model_name":"gpt-4o"}}',
     '[{"name":"exception","timestamp":"2026-01-01T09:01:03+00:00","attributes":{"exception.type":'
     || '"APITimeoutError","exception.message":"no answer from api.example"}}]', 'ERROR',
     'no answer from api.example', 1, 0, 0, 0, 0),
    (7, 2, 'bbbbbbbbbbbbbbb3', NULL, 'chat gpt-4o-mini', 'UNKNOWN', '2026-01-01 09:01:04.000000',
     '2026-01-01 09:01:05.500000', '{"gen_ai":{"operation":{"name":"chat"},"usage":{'
     || '"input_tokens":50,"output_tokens":20},"request":{"model":"gpt-4o-mini"},"response":{'
     || '"model":"gpt-4o-mini-2024-07-18"}}}', '[]', 'UNSET', '', 0, 0, 0, 0, 0),
    (8, 2, 'bbbbbbbbbbbbbbb4', NULL, 'broken', 'LLM', '2026-01-01 09:01:06.000000',
     '2026-01-01 09:01:07.000000', '{"llm":', '[', 'OK', '', 0, 0, 0, 0, 0);
