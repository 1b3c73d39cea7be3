-- A tracking database of MLflow 3: the content of a span has its attributes as texts of JSON.
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name VARCHAR(256));
INSERT INTO experiments VALUES (0, 'Default');
CREATE TABLE trace_info (request_id VARCHAR(50) PRIMARY KEY, experiment_id INTEGER,
    timestamp_ms BIGINT, execution_time_ms BIGINT, status VARCHAR(50), request_preview VARCHAR,
    response_preview VARCHAR);
INSERT INTO trace_info VALUES ('tr-0af7651916cd43dd8448eb211c80319c', 0, 1767258000000, 900, 'OK',
    'hello', 'hi');
CREATE TABLE spans (trace_id VARCHAR(50), experiment_id INTEGER, span_id VARCHAR(50),
    parent_span_id VARCHAR(50), name TEXT, type VARCHAR(500), status VARCHAR(50),
    start_time_unix_nano BIGINT, end_time_unix_nano BIGINT, content TEXT, model_name VARCHAR(500),
    PRIMARY KEY (trace_id, span_id));
INSERT INTO spans VALUES
    ('tr-0af7651916cd43dd8448eb211c80319c', 0, 'aaaaaaaaaaaaaaa1', NULL, 'agent', 'AGENT', 'OK',
     1767258000000000000, 1767258009000000000, '{"attributes":{"mlflow.spanType":"\"AGENT\"",'
     || '"mlflow.spanInputs":"\"hello\""}}', NULL),
    ('tr-0af7651916cd43dd8448eb211c80319c', 0, 'aaaaaaaaaaaaaaa2', 'aaaaaaaaaaaaaaa1',
     'Completions', 'CHAT_MODEL', 'OK', 1767258001000000000, 1767258001171500000,
     '{"attributes":{"mlflow.spanType":"\"CHAT_MODEL\"","model":"\"gpt-4o-mini\"",'
     || '"mlflow.spanInputs":"{\"messages\":[{\"content\":\"hello\"}]}","mlflow.chat.tokenUsage":'
     || '"{\"input_tokens\":100,\"output_tokens\":7,\"total_tokens\":107,'
     || '\"cache_read_input_tokens\":64}","mlflow.message.format":"\"openai\""},"events":[{"name":'
     || '"mlflow.chunk.item.0","time_unix_nano":1767258001050000000,"attributes":{'
     || '"mlflow.chunk.value":"\"h\""}}]}', 'gpt-4o-mini-2024-07-18'),
    ('tr-0af7651916cd43dd8448eb211c80319c', 0, 'aaaaaaaaaaaaaaa3', 'aaaaaaaaaaaaaaa1',
     'Messages.create', 'CHAT_MODEL', 'OK', 1767258002000000000, 1767258003000000000,
     '{"attributes":{"mlflow.chat.tokenUsage":"{\"input_tokens\":10,\"output_tokens\":30,'
     || '\"cache_read_input_tokens\":70,\"cache_creation_input_tokens\":20}",'
     || '"mlflow.message.format":"\"anthropic\"","mlflow.llm.model":"\"claude-sonnet-4\""}}', NULL),
    ('tr-0af7651916cd43dd8448eb211c80319c', 0, 'aaaaaaaaaaaaaaa4', NULL, 'Embeddings', 'EMBEDDING',
     'OK', 1767258004000000000, 1767258004100000000, '{"attributes":{"model":"\"small\""}}', NULL),
    ('tr-0af7651916cd43dd8448eb211c80319c', 0, 'aaaaaaaaaaaaaaa5', NULL, 'Completions',
     'CHAT_MODEL', 'ERROR', 1767258005000000000, 1767258006000000000,
     '{"attributes":{"model":"\"gpt-4o-mini\""},"events":[{"name":"exception","attributes":{'
     || '"exception.type":"APITimeoutError","exception.message":"host.example is slow"}}]}', NULL),
    ('tr-0af7651916cd43dd8448eb211c80319c', 0, 'aaaaaaaaaaaaaaa6', NULL, 'Completions', 'LLM', 'OK',
     1767258007000000000, 1767258008000000000, '{"attributes":{"model":"\"gpt-4o-mini\""}}', NULL),
    ('tr-0af7651916cd43dd8448eb211c80319c', 0, 'aaaaaaaaaaaaaaa7', NULL, 'Completions', 'LLM',
     'UNSET', 1767258009000000000, NULL, '{"attributes":{"model":"\"gpt-4o-mini\"",'
     || '"mlflow.chat.tokenUsage":"{\"input_tokens\":5,\"output_tokens\":3}"}}', NULL);
