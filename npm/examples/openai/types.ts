// Compiled, never run: code written for OpenAI's client can be given Helium's completions.

import type OpenAI from 'openai';
import type { CompletionChunk, CompletionRequest, CompletionResponse, CompletionUsage, Helium } from 'helium-webgpu';

type Assignable<From extends To, To> = From;
type Theirs = OpenAI.Completions.CompletionCreateParams;

/** What this engine has no counterpart for, and refuses by name. */
type Refused = 'best_of' | 'suffix' | 'user';

// Whatever OpenAI's request holds beside those is understood, under the same name.
export type Request = Assignable<Omit<OpenAI.Completions.CompletionCreateParamsNonStreaming, Refused | 'prompt' | 'stream_options'>, Omit<CompletionRequest, 'prompt'>>;
export type Prompt = Assignable<NonNullable<Theirs['prompt']>, CompletionRequest['prompt']>;
export type Names = Assignable<Exclude<keyof Theirs, Refused>, keyof CompletionRequest>;
// And the other way round: a request of ours, without the signal, is one of theirs.
export type Back = Assignable<Omit<CompletionRequest, 'signal'> & { model: string }, OpenAI.Completions.CompletionCreateParams>;

export type Response = Assignable<CompletionResponse, OpenAI.Completion>;
export type Usage = Assignable<CompletionUsage, OpenAI.CompletionUsage>;

// A stream's chunks as well, but that OpenAI's types leave out the null that its servers send as the reason in all
// chunks of a choice but the last.
type Part = CompletionChunk['choices'][number];
export type Chunk = Assignable<Omit<CompletionChunk, 'choices'>, Omit<OpenAI.Completion, 'choices'>>;
export type Choice = Assignable<Part & { finish_reason: 'stop' | 'length' }, OpenAI.CompletionChoice>;

export async function whole(client: OpenAI | Helium, prompt: string): Promise<OpenAI.Completion> {
  const request = { model: 'helium-1', prompt, max_tokens: 8, stream: false } as const;
  return 'chat' in client ? client.completions.create(request) : client.completions.create(request);
}

export async function streamed(client: OpenAI | Helium, prompt: string): Promise<string> {
  const request = { model: 'helium-1', prompt, stream: true, stream_options: { include_usage: true } } as const;
  const chunks = await ('chat' in client ? client.completions.create(request) : client.completions.create(request));
  let text = '';
  for await (const { choices } of chunks) text += choices[0]?.text ?? '';
  return text;
}
