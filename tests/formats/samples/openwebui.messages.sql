-- A database of Open WebUI since 2026-02: messages have a table, and lie in the chat's JSON, too.
CREATE TABLE user (id VARCHAR PRIMARY KEY, name VARCHAR, email VARCHAR, role VARCHAR);
INSERT INTO user VALUES ('u1', 'Ada', 'ada@mail.example', 'admin');
CREATE TABLE auth (id VARCHAR PRIMARY KEY, email VARCHAR, password TEXT, active BOOLEAN);
INSERT INTO auth VALUES ('u1', 'ada@mail.example', 'hashed', 1);
CREATE TABLE chat (id VARCHAR PRIMARY KEY, user_id VARCHAR, title TEXT, chat JSON,
    created_at BIGINT, updated_at BIGINT, share_id TEXT, archived BOOLEAN);
INSERT INTO chat VALUES
    ('chat-1', 'u1', 'a greeting', '{"history":{"messages":{"m2":{"id":"m2","role":"assistant",'
     || '"model":"llama3.2:latest","content":"hi","done":true,"timestamp":1767258000,"usage":{'
     || '"prompt_eval_count":99,"eval_count":99,"total_duration":1}},"m9":{"id":"m9","role":'
     || '"assistant","model":"llama3.2:latest","content":"hi","done":true,"timestamp":1767258900,'
     || '"usage":{"prompt_eval_count":31,"eval_count":9,"total_duration":900000000}}}}}',
     1767258000, 1767258010, NULL, 0),
    ('chat-2', 'u1', 'broken', '{"history":', 1767258000, 1767258010, NULL, 0);
CREATE TABLE chat_message (id TEXT PRIMARY KEY, chat_id TEXT NOT NULL, user_id TEXT,
    role TEXT NOT NULL, parent_id TEXT, content JSON, output JSON, model_id TEXT, files JSON,
    sources JSON, embeds JSON, done BOOLEAN, status_history JSON, error JSON, usage JSON,
    created_at BIGINT, updated_at BIGINT);
INSERT INTO chat_message (id, chat_id, user_id, role, content, model_id, done, error, usage,
    created_at) VALUES
    ('chat-1-m1', 'chat-1', 'u1', 'user', '"hello"', NULL, 1, NULL, NULL, 1767258000),
    ('chat-1-m2', 'chat-1', 'u1', 'assistant', '"hi"', 'llama3.2:latest', 1, 'null',
     '{"total_duration":2500000000,"load_duration":500000000,"prompt_eval_count":26,'
     || '"eval_count":298,"input_tokens":126,"output_tokens":598,"total_tokens":724,'
     || '"prompt_tokens":26,"completion_tokens":298,"approximate_total":"0h0m2s",'
     || '"response_token/s":150.5}', 1767258000),
    ('chat-1-m3', 'chat-1', 'u1', 'assistant', '"hi"', 'qwen-server', 1, NULL,
     '{"cache_n":300,"prompt_n":12,"prompt_ms":40.5,"predicted_n":20,"predicted_ms":400.25,'
     || '"input_tokens":12,"output_tokens":20}', 1767258001),
    ('chat-1-m4', 'chat-1', 'u1', 'assistant', '"hi"', 'old-server', 1, NULL,
     '{"prompt_n":12,"prompt_ms":40.5,"predicted_n":20,"predicted_ms":400.25,"prompt_tokens":77,'
     || '"completion_tokens":20,"input_tokens":77,"output_tokens":20}', 1767258002),
    ('chat-1-m5', 'chat-1', 'u1', 'assistant', '"hi"', 'gpt-4o', 1, NULL,
     '{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}', 1767258003),
    ('chat-1-m6', 'chat-1', 'u1', 'assistant', '"hi"', 'groq.llama', 1, NULL,
     '{"prompt_tokens":41,"completion_tokens":27,"queue_time":0.25,"total_time":0.07}', 1767258004),
    ('chat-1-m7', 'chat-1', 'u1', 'assistant', '"h"', 'llama3.2:latest', 0, NULL, NULL, 1767258005),
    ('chat-1-m8', 'chat-1', 'u1', 'assistant', '""', 'llama3.2:latest', 1,
     '{"content":"host.example refused"}', NULL, 1767258006),
    ('chat-1-m10', 'chat-1', 'u1', 'assistant', '"hi"', 'llama3.2:latest', 1, NULL,
     '{"total_duration":0,"prompt_eval_count":0,"eval_count":0}', 1767258007);
