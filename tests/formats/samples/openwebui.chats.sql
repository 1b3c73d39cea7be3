-- A database of Open WebUI before 2026-02: messages lie in the chat's JSON, twice.
CREATE TABLE user (id VARCHAR PRIMARY KEY, name VARCHAR, email VARCHAR, role VARCHAR);
INSERT INTO user VALUES ('u1', 'Ada', 'ada@mail.example', 'admin');
CREATE TABLE auth (id VARCHAR PRIMARY KEY, email VARCHAR, password TEXT, active BOOLEAN);
CREATE TABLE chat (id VARCHAR PRIMARY KEY, user_id VARCHAR, title TEXT, chat JSON,
    created_at BIGINT, updated_at BIGINT);
INSERT INTO chat VALUES
    ('chat-1', 'u1', 'a greeting', '{"models":["llama3"],"history":{"currentId":"m2","messages":{'
     || '"m1":{"id":"m1","role":"user","content":"hello","timestamp":1730000000},'
     || '"m2":{"id":"m2","role":"assistant","model":"llama3:8b","content":"hi","done":true,'
     || '"timestamp":1730000001,"usage":{"total_duration":1500000000,"load_duration":250000000,'
     || '"prompt_eval_count":26,"eval_count":30}}}},"messages":[{"id":"m1","role":"user",'
     || '"content":"hello"},{"id":"m2","role":"assistant","model":"llama3:8b","content":"hi",'
     || '"done":true,"timestamp":1730000001,"usage":{"total_duration":1500000000,'
     || '"load_duration":250000000,"prompt_eval_count":26,"eval_count":30}}]}',
     1730000000, 1730000010),
    ('chat-2', 'u1', 'older', '{"history":{"messages":{}},"messages":[{"id":"m1","role":"assistant",'
     || '"model":"llama3:8b","content":"hi","timestamp":1710000000,"info":{"total_duration":'
     || '800000000,"prompt_eval_count":15,"eval_count":8}},{"id":"m2","role":"assistant","model":'
     || '"llama3:8b","error":{"content":"host.example refused"},"timestamp":1710000001}]}',
     1710000000, 1710000010);
