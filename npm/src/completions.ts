// OpenAI's completions endpoint (the legacy one, for base models) in front of `generate`: its request
// and response shapes, where this engine has a counterpart. What it has none for is refused by name.

import { HeliumError } from './errors.js';
import { checkGenerate } from './options.js';
import type { Completion, GenerateOptions, Info, Score, Token } from './types.js';

/** The fields of OpenAI's request that are understood; any other is refused by name, unless it is null. */
export interface CompletionRequest {
  /** A text or the ids of its tokens; or several such, each with choices of its own. */
  prompt: string | string[] | number[] | number[][];
  model?: string;
  /** 16 without it, as OpenAI has it; 0 with `echo` scores the prompt. */
  max_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  logit_bias?: Record<string, number> | null;
  logprobs?: number | null;
  /** Of the first choice; the next one's is one more, and so on. */
  seed?: number | null;
  stop?: string | string[] | null;
  /** The prompt comes before the completion; with `logprobs`, with those of its own tokens. */
  echo?: boolean | null;
  /** Choices for each prompt, computed one after another. */
  n?: number | null;
  stream?: boolean | null;
  /** For streams: whether a last chunk, without choices, tells the usage. */
  stream_options?: { include_usage?: boolean } | null;
  /** Not OpenAI's: stops the generation. */
  signal?: AbortSignal;
}

/** Assignable to OpenAI's `Completion`. */
export interface CompletionResponse {
  id: string;
  object: 'text_completion';
  created: number;
  model: string;
  choices: CompletionChoice[];
  /** The tokens of each prompt count once, however many choices it has. */
  usage: CompletionUsage;
}

export interface CompletionChoice {
  text: string;
  /** The first prompt's choices come first. */
  index: number;
  logprobs: CompletionLogprobs | null;
  /** `stop`: the text is over, or a stop text came; `length`: `max_tokens`, or the context is full. */
  finish_reason: 'stop' | 'length';
}

/** One part of a streamed response. Where there are several choices, they come one after another. */
export interface CompletionChunk extends Omit<CompletionResponse, 'choices' | 'usage'> {
  /** `finish_reason` is null in all chunks of a choice but its last. */
  choices: (Omit<CompletionChoice, 'finish_reason'> & { finish_reason: 'stop' | 'length' | null })[];
  /** In the last chunk, where `stream_options` asked for it. */
  usage?: CompletionUsage;
}

export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export interface CompletionLogprobs {
  tokens: string[];
  /** An echoed prompt's first token has null, which OpenAI's servers send and OpenAI's types do not say either. */
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
  /** Where each token begins in the choice's text. */
  text_offset: number[];
}

/** What completions need of `Helium`. */
interface Engine {
  generate(prompt: string | number[], options: GenerateOptions): AsyncGenerator<Token, Completion, undefined>;
  score(text: string, options: { top?: number }): Promise<Score>;
  detokenize(ids: number[]): Promise<string>;
  readonly info: Info;
}

const KNOWN = new Set([
  'prompt', 'model', 'max_tokens', 'temperature', 'top_p', 'presence_penalty', 'frequency_penalty',
  'logit_bias', 'logprobs', 'seed', 'stop', 'echo', 'n', 'stream', 'stream_options', 'signal',
]);

/** OpenAI's own defaults. */
const MAX_TOKENS = 16;
const TEMPERATURE = 1;

/** OpenAI's most. */
const MOST_CHOICES = 128;

/** `helium.completions`: generation in the shape of OpenAI's completions endpoint. */
export class Completions {
  constructor(private readonly helium: Engine) {}

  create(request: CompletionRequest & { stream: true }): Promise<AsyncGenerator<CompletionChunk, void, undefined>>;
  create(request: CompletionRequest & { stream?: false | null }): Promise<CompletionResponse>;
  create(request: CompletionRequest): Promise<CompletionResponse | AsyncGenerator<CompletionChunk, void, undefined>>;
  async create(request: CompletionRequest): Promise<CompletionResponse | AsyncGenerator<CompletionChunk, void, undefined>> {
    for (const [name, value] of Object.entries(request)) {
      if (!KNOWN.has(name) && value != null) throw new HeliumError('invalid-argument', `completions: "${name}" is not supported`);
    }
    const n = request.n ?? 1;
    if (!Number.isSafeInteger(n) || n < 1 || n > MOST_CHOICES) {
      throw new HeliumError('invalid-argument', `n: expected a whole number from 1 to ${MOST_CHOICES}, found ${String(n)}`);
    }
    const prompts = promptsOf(request.prompt);
    if (request.echo && request.logprobs != null && !prompts.every((prompt) => typeof prompt === 'string')) {
      throw new HeliumError('invalid-argument', 'prompt: expected a text, for echo with logprobs');
    }
    for (const prompt of prompts) checkGenerate(prompt, toOptions(request, 0));

    const usage = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
    const chunks = this.chunks(request, prompts, n, usage);
    if (request.stream) return chunks;
    const choices: CompletionChoice[] = [];
    let head: CompletionChunk | undefined;
    for await (const chunk of chunks) {
      head = chunk;
      for (const choice of chunk.choices) choices[choice.index] = joined(choices[choice.index], choice);
    }
    return { ...head!, choices, usage }; // there is always a last chunk
  }

  private async *chunks(
    request: CompletionRequest,
    prompts: (string | number[])[],
    n: number,
    usage: CompletionUsage,
  ): AsyncGenerator<CompletionChunk, void, undefined> {
    const { model } = this.helium.info;
    const head = {
      id: `cmpl-${Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join('')}`,
      object: 'text_completion' as const,
      created: Math.floor(Date.now() / 1000),
      model: request.model ?? model,
    };
    for (const [at, prompt] of prompts.entries()) {
      for (let nth = 0; nth < n; nth++) {
        const index = at * n + nth;
        for await (const part of this.choice(request, prompt, index, nth === 0, usage)) yield { ...head, choices: [{ ...part, index }] };
      }
    }
    if (request.stream && request.stream_options?.include_usage) yield { ...head, choices: [], usage };
  }

  /** One choice in parts, the last of which has a reason. */
  private async *choice(
    request: CompletionRequest,
    prompt: string | number[],
    index: number,
    first: boolean,
    usage: CompletionUsage,
  ): AsyncGenerator<Omit<CompletionChunk['choices'][0], 'index'>, void, undefined> {
    let offset = 0;
    if (request.echo) {
      const text = typeof prompt === 'string' ? prompt : await this.helium.detokenize(prompt);
      yield { text, logprobs: request.logprobs == null ? null : await this.scored(text, request.logprobs), finish_reason: null };
      offset = text.length;
    }
    const tokens = this.helium.generate(prompt, toOptions(request, index));
    try {
      for (;;) {
        const { done, value } = await tokens.next();
        if (done) {
          usage.prompt_tokens += first ? value.promptIds.length : 0;
          usage.completion_tokens += value.ids.length;
          usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
          const ended = value.finishReason === 'eos' || value.finishReason === 'stop';
          yield { text: '', logprobs: null, finish_reason: ended ? 'stop' : 'length' };
          return;
        }
        yield { text: value.text, logprobs: request.logprobs == null ? null : logprobs(value, offset), finish_reason: null };
        offset += value.text.length;
      }
    } finally {
      await tokens.return(undefined as never); // a caller that leaves early stops the engine too
    }
  }

  /** The log-probabilities of a prompt's own tokens. */
  private async scored(prompt: string, top: number): Promise<CompletionLogprobs> {
    const score = await this.helium.score(prompt, { top });
    const tokens = await Promise.all(score.ids.map((id) => this.helium.detokenize([id])));
    let offset = 0;
    const text_offset = tokens.map((token) => (offset += token.length) - token.length);
    const top_logprobs = score.ids.map((_, at) => record(at === 0 ? [] : score.top[at - 1]));
    return { tokens, token_logprobs: score.logprobs as number[], top_logprobs, text_offset };
  }
}

function promptsOf(prompt: unknown): (string | number[])[] {
  if (typeof prompt === 'string') return [prompt];
  if (Array.isArray(prompt) && prompt.length > 0) {
    if (prompt.every((one) => typeof one === 'number')) return [prompt as number[]];
    if (prompt.every((one) => typeof one === 'string' || Array.isArray(one))) return prompt as (string | number[])[];
  }
  throw new HeliumError('invalid-argument', 'prompt: expected a text, token ids, or an array of either');
}

function toOptions(request: CompletionRequest, index: number): GenerateOptions {
  const options: GenerateOptions = { maxTokens: request.max_tokens ?? MAX_TOKENS, temperature: request.temperature ?? TEMPERATURE };
  if (request.top_p != null) options.topP = request.top_p;
  if (request.presence_penalty != null) options.presencePenalty = request.presence_penalty;
  if (request.frequency_penalty != null) options.frequencyPenalty = request.frequency_penalty;
  if (request.logit_bias != null) options.logitBias = request.logit_bias;
  if (request.logprobs != null) options.logprobs = request.logprobs;
  if (request.seed != null) options.seed = request.seed + index;
  if (request.stop != null) options.stop = request.stop;
  if (request.signal !== undefined) options.signal = request.signal;
  return options;
}

/** Null for text that was held back: its tokens have come before. */
function logprobs({ text, id, logprob, top }: Token, offset: number): CompletionLogprobs | null {
  if (id === undefined || logprob === undefined) return null;
  return { tokens: [text], token_logprobs: [logprob], top_logprobs: [record(top)], text_offset: [offset] };
}

function record(top: Token['top'] = []): Record<string, number> {
  return Object.fromEntries(top.map(({ text, logprob }) => [text, logprob]));
}

/** A choice and the part after it as one. The last part's reason counts. */
function joined(before: CompletionChoice | undefined, { index, ...after }: CompletionChunk['choices'][0]): CompletionChoice {
  const reason = after.finish_reason ?? 'length';
  if (before === undefined) return { index, ...after, finish_reason: reason };
  const [a, b] = [before.logprobs, after.logprobs];
  const both = a && b && {
    tokens: [...a.tokens, ...b.tokens],
    token_logprobs: [...a.token_logprobs, ...b.token_logprobs],
    top_logprobs: [...a.top_logprobs, ...b.top_logprobs],
    text_offset: [...a.text_offset, ...b.text_offset],
  };
  return { index, text: before.text + after.text, logprobs: both ?? a ?? b, finish_reason: reason };
}
